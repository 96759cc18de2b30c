(function () {
  "use strict";
  var roots = document.querySelectorAll('[data-candlescope="ROOT_ID"]:not([data-ready])');
  for (var i = 0; i < roots.length; i++) build(roots[i]);

  function build(root) {
    root.setAttribute("data-ready", "1");
    var data = JSON.parse(root.getAttribute("data-attention"));
    var raw = atob(data.levels), rows = data.rows, cols = data.cols, size = rows * cols;
    var colors = [];
    for (var c = 0; c < 256; c++) {
      var n = parseInt(data.colors.substr(c * 6, 6), 16);
      colors.push([n >> 16, (n >> 8) & 255, n & 255]);
    }
    var state = { locked: data.start, head: data.start, row: -1, col: -1, token: -1, held: false, from: true };
    var offset = data.keys.length - data.queries.length;

    function level(head, row, col) { return raw.charCodeAt(head * size + row * cols + col); }
    function shown(value) {
      if (value === 254) return "not visible";
      if (value === 255) return "not finite";
      return (data.low + (data.high - data.low) * value / 253).toFixed(3);
    }
    function css(value) { return "rgb(" + colors[value].join(",") + ")"; }
    function make(tag, style, parent) {
      var node = document.createElement(tag);
      node.style.cssText = style;
      if (parent) parent.appendChild(node);
      return node;
    }

    // Every head once, one pixel a cell; drawn enlarged wherever it is needed.
    var pictures = data.heads.map(function (_, head) {
      var canvas = document.createElement("canvas");
      canvas.width = cols; canvas.height = rows;
      var context = canvas.getContext("2d"), image = context.createImageData(cols, rows);
      for (var p = 0; p < size; p++) {
        var color = colors[raw.charCodeAt(head * size + p)];
        image.data[p * 4] = color[0]; image.data[p * 4 + 1] = color[1]; image.data[p * 4 + 2] = color[2];
        image.data[p * 4 + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      return canvas;
    });

    var box = make("div", "background:#fff;color:#1f2328;padding:8px;font:13px 'DejaVu Sans',Verdana,sans-serif;overflow-x:auto");
    box.className = "candlescope";
    make("div", "font-weight:bold;margin-bottom:6px", box).textContent = data.title;
    // Heads beside each other; in an overview a row for each layer.
    var grid = "display:grid;justify-content:start;overflow:auto;max-height:480px;gap:3px;grid-template-columns:repeat(" + data.across + ",max-content)";
    var strip = make("div", (data.across ? grid : "display:flex;flex-wrap:wrap;gap:6px") + ";margin-bottom:8px", box);
    strip.setAttribute("role", "group");
    strip.setAttribute("aria-label", "Heads: hover to look, click to keep");
    var thumb = data.across ? Math.max(24, Math.min(64, Math.floor(800 / data.across))) : data.heads.length > 12 ? 64 : 88;
    var framed = data.across ? "padding:0;border:2px solid transparent;line-height:1" : "padding:2px;border:2px solid #d0d7de;border-radius:4px";
    var buttons = data.heads.map(function (name, head) {
      var button = make("button", "background:#fff;color:#1f2328;cursor:pointer;font-size:11px;font-family:inherit;" + framed, strip);
      button.type = "button";
      button.title = name + ": hover to look, click to keep";
      var canvas = make("canvas", "display:block;width:" + thumb + "px;height:" + thumb + "px", button);
      canvas.width = canvas.height = thumb * 2;
      var context = canvas.getContext("2d");
      context.imageSmoothingEnabled = rows > thumb * 2;
      context.fillStyle = "#eee";
      context.fillRect(0, 0, thumb * 2, thumb * 2);
      var scale = thumb * 2 / Math.max(rows, cols);
      context.drawImage(pictures[head], 0, 0, cols * scale, rows * scale);
      if (data.across) button.setAttribute("aria-label", name);
      else make("span", "", button).textContent = name;
      button.onmouseenter = function () { state.head = head; draw(); };
      button.onmouseleave = function () { state.head = state.locked; draw(); };
      button.onfocus = button.onmouseenter;
      button.onblur = button.onmouseleave;
      button.onclick = function () { state.locked = state.head = head; draw(); };
      button.onkeydown = function (event) {
        var step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: data.across, ArrowUp: -data.across }[event.key];
        var next = step && buttons[head + step];
        if (next) { next.focus(); event.preventDefault(); }
      };
      return button;
    });

    var line = make("div", "min-height:40px;margin:2px 0", box);
    line.setAttribute("aria-live", "polite");

    // The large head, with its labels drawn on the same canvas.
    var cell = Math.max(3, Math.min(22, Math.floor(480 / Math.max(rows, cols)))), font = Math.max(9, Math.min(12, cell));
    var every = Math.ceil((font + 1) / cell), ratio = Math.max(1, window.devicePixelRatio || 1);
    var large = make("canvas", "display:block;cursor:crosshair"), ink = large.getContext("2d");
    var face = font + "px 'DejaVu Sans',Verdana,sans-serif";
    var sides = make("div", "display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start", box);
    make("div", "overflow-x:auto;max-width:100%", sides).appendChild(large);
    ink.font = face;
    function cut(text) {
      if (ink.measureText(text).width <= 110) return text;
      var chars = Array.from(text);
      while (chars.length && ink.measureText(chars.join("") + "…").width > 110) chars.pop();
      return chars.join("") + "…";
    }
    var left = 0, bottom = 0, rowNames = data.queries.map(cut), colNames = data.keys.map(cut);
    rowNames.forEach(function (text) { left = Math.max(left, ink.measureText(text).width); });
    colNames.forEach(function (text) { bottom = Math.max(bottom, ink.measureText(text).width); });
    left = Math.ceil(left) + 26; bottom = Math.ceil(bottom) + 26;
    var width = left + cols * cell + 8, height = rows * cell + bottom + 4;
    large.width = width * ratio; large.height = height * ratio;
    large.style.width = width + "px"; large.style.height = height + "px";

    // The label under the pointer always shows; its neighbours make room.
    function hidden(i, chosen) {
      if (i === chosen) return false;
      return i % every !== 0 || (chosen >= 0 && Math.abs(i - chosen) < every);
    }

    function draw() {
      buttons.forEach(function (button, head) {
        button.style.borderColor = head === state.locked ? "#d55e00" : head === state.head ? "#0072b2" : data.across ? "transparent" : "#d0d7de";
        button.setAttribute("aria-pressed", head === state.locked);
      });
      ink.setTransform(ratio, 0, 0, ratio, 0, 0);
      ink.fillStyle = "#fff";
      ink.fillRect(0, 0, width, height);
      ink.imageSmoothingEnabled = false;
      ink.drawImage(pictures[state.head], left, 2, cols * cell, rows * cell);
      ink.strokeStyle = "#8c959f";
      ink.strokeRect(left - 0.5, 1.5, cols * cell + 1, rows * cell + 1);
      ink.font = face;
      ink.textBaseline = "middle";
      ink.textAlign = "right";
      rowNames.forEach(function (text, row) {
        if (hidden(row, state.row)) return;
        ink.fillStyle = row === state.row ? "#d55e00" : "#1f2328";
        ink.fillText(text, left - 6, 2 + (row + 0.5) * cell);
      });
      colNames.forEach(function (text, col) {
        if (hidden(col, state.col)) return;
        ink.save();
        ink.translate(left + (col + 0.5) * cell, rows * cell + 8);
        ink.rotate(-Math.PI / 2);
        ink.fillStyle = col === state.col ? "#d55e00" : "#1f2328";
        ink.fillText(text, 0, 0);
        ink.restore();
      });
      ink.fillStyle = "#57606a";
      ink.textAlign = "center";
      ink.fillText("key", left + cols * cell / 2, height - 8);
      ink.save();
      ink.translate(8, rows * cell / 2);
      ink.rotate(-Math.PI / 2);
      ink.fillText("query", 0, 0);
      ink.restore();
      if (state.row >= 0) {
        ink.strokeStyle = "#d55e00";
        ink.strokeRect(left - 0.5, 2 + state.row * cell - 0.5, cols * cell + 1, cell + 1);
        if (state.col >= 0) ink.strokeRect(left + state.col * cell - 0.5, 1.5, cell + 1, rows * cell + 1);
      }
      tell();
      paint();
    }

    function named(tokens, places, i) { return "“" + tokens[i] + "” (" + places[i] + ")"; }
    function tell() {
      var name = data.heads[state.head];
      if (state.row >= 0 && state.col >= 0) {
        line.textContent = name + ": " + named(data.queries, data.rowPlaces, state.row) + " looks at " +
          named(data.keys, data.colPlaces, state.col) + ": " + shown(level(state.head, state.row, state.col));
      } else {
        line.textContent = name + ": from " + data.low.toPrecision(3) + " (faint) to " + data.high.toPrecision(3) +
          " (strong). Hover a cell or a token for details.";
        if (data.low < 0) line.textContent = name + ": from " + data.low.toPrecision(3) + " (red) through 0 (no colour) to " + data.high.toPrecision(3) + " (blue).";
      }
    }

    large.onmousemove = function (event) {
      var place = large.getBoundingClientRect();
      var col = Math.floor((event.clientX - place.left - left) / cell), row = Math.floor((event.clientY - place.top - 2) / cell);
      if (col < 0 || row < 0 || col >= cols || row >= rows) col = row = -1;
      if (col !== state.col || row !== state.row) { state.col = col; state.row = row; draw(); }
    };
    large.onmouseleave = function () { state.row = state.col = -1; draw(); };

    // The text: hovering a token shows where it looks, or what looks at it.
    var side = make("div", "flex:1 1 260px;max-height:520px;overflow-y:auto;display:" + (data.words ? "block" : "none"), sides);
    var bar = make("div", "margin:2px 0", side);
    make("span", "", bar).textContent = "Hover a token (click to keep it) to see ";
    var turn = make("button", "background:#f6f8fa;color:#1f2328;border:1px solid #8c959f;border-radius:4px;cursor:pointer", bar);
    turn.type = "button";
    turn.onclick = function () { state.from = !state.from; paint(); };
    var words = make("div", "line-height:2", side);
    var spans = data.keys.map(function (text, i) {
      var span = make("span", "border:1px solid #d0d7de;border-radius:3px;padding:1px 2px;margin:0 1px;cursor:pointer;display:inline-block;line-height:1.3;white-space:pre", words);
      span.textContent = text;
      span.tabIndex = 0;
      span.onmouseenter = span.onfocus = function () { if (!state.held) { state.token = i; paint(); } };
      span.onmouseleave = span.onblur = function () { if (!state.held) { state.token = -1; paint(); } };
      span.onclick = function () { state.held = !(state.held && state.token === i); state.token = i; paint(); };
      span.onkeydown = function (event) { if (event.key === "Enter" || event.key === " ") { span.onclick(); event.preventDefault(); } };
      return span;
    });
    function paint() {
      turn.textContent = state.from ? "where it looks" : "what looks at it";
      var token = state.token;
      spans.forEach(function (span, i) {
        var value = -1;
        if (token >= 0 && state.from && token >= offset) value = level(state.head, token - offset, i);
        if (token >= 0 && !state.from && i >= offset) value = level(state.head, i - offset, token);
        var color = value < 0 ? [255, 255, 255] : colors[value];
        span.style.background = value < 0 ? "#fff" : css(value);
        span.style.color = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] < 140 ? "#fff" : "#1f2328";
        span.style.borderColor = i === token ? "#d55e00" : "#d0d7de";
        span.title = value < 0 ? "position " + i : "position " + i + ": " + shown(value);
      });
    }

    draw();
    [].slice.call(root.childNodes).forEach(function (node) { if (node.tagName !== "STYLE") root.removeChild(node); });
    root.appendChild(box);
  }
})();
