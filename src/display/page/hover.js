(function () {
  "use strict";
  // Places of a picture that have a text: under the pointer at once, and cell by cell with the arrow keys.
  var roots = document.querySelectorAll('[data-candlescope="ROOT_ID"]:not([data-ready])');
  for (var i = 0; i < roots.length; i++) build(roots[i]);

  function build(root) {
    root.setAttribute("data-ready", "1");
    var image = root.querySelector("img"), map = root.querySelector("map"), chosen = -1;
    var places = [].map.call(map.querySelectorAll("area"), function (area) {
      var c = area.getAttribute("coords").split(",").map(Number);
      return { left: c[0], top: c[1], right: c[2], bottom: c[3], x: (c[0] + c[2]) / 2, y: (c[1] + c[3]) / 2, text: area.title };
    });
    // The browser's own titles come late, and would come twice.
    image.removeAttribute("usemap");
    root.removeChild(map);
    function add(name, role) {
      var node = document.createElement("div");
      node.className = name;
      if (role) node.setAttribute("role", role);
      root.appendChild(node);
      return node;
    }
    var mark = add("cs-mark"), tip = add("cs-tip", "status");
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", image.alt + ". The arrow keys go from place to place.");

    function show(next) {
      if (next === chosen) return;
      chosen = next;
      var place = places[chosen];
      mark.style.display = tip.style.display = place ? "block" : "none";
      if (!place) { tip.textContent = ""; return; }
      tip.textContent = place.text;
      mark.style.left = place.left + "px";
      mark.style.top = place.top + "px";
      mark.style.width = place.right - place.left + "px";
      mark.style.height = place.bottom - place.top + "px";
      // Within the part of the picture that is in view: nothing cuts it there.
      var here = root.getBoundingClientRect(), box = root.parentNode.getBoundingClientRect();
      var first = Math.max(0, box.left - here.left), last = Math.min(here.width, box.right - here.left) - 4;
      tip.style.left = tip.style.top = "0";
      tip.style.maxWidth = Math.min(320, last - first - 12) + "px";
      var left = Math.max(first, Math.min(place.x + 12, last - tip.offsetWidth));
      var below = place.bottom + 6, above = place.top - tip.offsetHeight - 6;
      tip.style.left = left + "px";
      tip.style.top = (below + tip.offsetHeight <= root.offsetHeight || above < 0 ? Math.min(below, root.offsetHeight - tip.offsetHeight) : above) + "px";
    }

    function at(x, y) {
      var best = -1, least = Infinity;
      places.forEach(function (place, i) {
        if (x < place.left || x >= place.right || y < place.top || y >= place.bottom) return;
        var far = Math.abs(x - place.x) + Math.abs(y - place.y);
        if (far < least) { least = far; best = i; }
      });
      return best;
    }

    // The nearest place to one side; straight ahead goes before aslant.
    function beside(dx, dy) {
      var here = places[chosen], best = chosen, least = Infinity;
      places.forEach(function (place, i) {
        var x = place.x - here.x, y = place.y - here.y, ahead = dx * x + dy * y;
        if (ahead <= 0.5) return;
        var far = ahead + 3 * Math.abs(dx ? y : x);
        if (far < least) { least = far; best = i; }
      });
      return best;
    }

    root.onmousemove = function (event) {
      var box = image.getBoundingClientRect();
      show(at(event.clientX - box.left, event.clientY - box.top));
    };
    root.onmouseleave = root.onblur = function () { show(-1); };
    root.onkeydown = function (event) {
      var way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
      if (event.key === "Escape") show(-1);
      else if (event.key === "Home" || (way && chosen < 0)) show(0);
      else if (event.key === "End") show(places.length - 1);
      else if (way) show(beside(way[0], way[1]));
      else return;
      event.preventDefault();
    };
  }
})();
