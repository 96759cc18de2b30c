(function () {
  "use strict";
  // Tokens of a text: what is under the pointer is said at once, and several series of values take turns as colours.
  var roots = document.querySelectorAll('[data-candlescope="ROOT_ID"]:not([data-ready])');
  for (var i = 0; i < roots.length; i++) build(roots[i]);

  function build(root) {
    root.setAttribute("data-ready", "1");
    var series = JSON.parse(root.getAttribute("data-tokens"));
    var tokens = [].slice.call(root.querySelectorAll("code")), row = root.firstChild;
    var line = document.createElement("div");
    line.setAttribute("role", "status");
    line.style.cssText = "min-height:20px";
    root.insertBefore(line, row.nextSibling);

    // A title of the browser's own would come late, over the text.
    var titles = tokens.map(function (token) { var title = token.title; token.removeAttribute("title"); return title; });
    tokens.forEach(function (token, i) {
      token.tabIndex = i ? -1 : 0;
      token.setAttribute("aria-label", token.textContent + ", " + titles[i]);
      token.onmouseenter = token.onfocus = function () {
        token.style.outline = "2px solid #d55e00";
        line.textContent = "“" + token.textContent + "”: " + titles[i];
      };
      token.onmouseleave = token.onblur = function () { token.style.outline = ""; line.textContent = ""; };
      token.onkeydown = function (event) {
        var next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tokens.length - 1 }[event.key];
        if (next === undefined || !tokens[next]) return;
        token.tabIndex = -1;
        tokens[next].tabIndex = 0;
        tokens[next].focus();
        event.preventDefault();
      };
    });

    if (series.length < 2) return;
    var group = document.createElement("div");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "What the colours show");
    root.insertBefore(group, row);
    var buttons = series.map(function (one) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = one.name;
      button.onclick = function () { paint(one); };
      group.appendChild(button);
      return button;
    });
    function paint(chosen) {
      buttons.forEach(function (button, i) {
        var on = series[i] === chosen;
        button.setAttribute("aria-pressed", on);
        button.style.cssText = "margin:0 4px 4px 0;padding:1px 8px;border-radius:4px;cursor:pointer;font:inherit;background:#fff;color:#1f2328;border:2px solid " + (on ? "#d55e00" : "#d0d7de");
      });
      tokens.forEach(function (token, i) {
        var fill = chosen.fills.substr(i * 6, 6), n = parseInt(fill, 16);
        if (!fill) return;
        token.style.backgroundColor = "#" + fill;
        token.style.color = 0.299 * (n >> 16) + 0.587 * (n >> 8 & 255) + 0.114 * (n & 255) < 140 ? "#fff" : "#1f2328";
      });
    }
    paint(series[0]);
  }
})();
