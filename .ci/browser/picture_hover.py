"""Pictures with a text under the pointer (`.cs-picture`): by mouse and by keys."""

from browser import wait_for

# Before our script ran: the id, the size and the places of every picture.
PLACES = """() => [...document.querySelectorAll('.cs-picture')].map(picture => ({
  id: picture.dataset.candlescope,
  places: [...picture.querySelectorAll('map area')].map(area => ({
    box: area.getAttribute('coords').split(',').map(Number), title: area.title,
  })),
}))"""

# What shows of the tip and the mark. A tip is covered where another element is on top, even if that lets the pointer
# through.
STATE = """picture => {
  const box = node => { const r = node.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const shown = name => [...picture.querySelectorAll(name)].find(node =>
    node.checkVisibility({opacityProperty: true, visibilityProperty: true}) && node.getClientRects().length);
  const tip = shown('.cs-tip'), mark = shown('.cs-mark');
  const state = {tip: null, mark: mark ? box(mark) : null, picture: box(picture), window: [0, 0, innerWidth, innerHeight]};
  if (tip) {
    const [left, top, right, bottom] = box(tip), all = document.createElement('style');
    all.textContent = '* { pointer-events: auto !important }';
    document.head.append(all);
    const points = [[left + 3, top + 3], [right - 3, top + 3], [left + 3, bottom - 3], [right - 3, bottom - 3]];
    points.push([(left + right) / 2, (top + bottom) / 2]);
    const covered = points.filter(([x, y]) => !tip.contains(document.elementFromPoint(x, y))).length;
    all.remove();
    state.tip = {text: tip.textContent, box: box(tip), covered, role: tip.getAttribute('role')};
  }
  return state;
}"""

# Scrolls a place of the picture into view, as little as that takes: at an edge the tip has the least room. Its edges.
BRING = """(picture, box) => {
  const image = picture.querySelector('img');
  const place = () => {
    const r = image.getBoundingClientRect(), scale = r.width / image.width;
    return {left: r.left + box[0] * scale, top: r.top + box[1] * scale, right: r.left + box[2] * scale, bottom: r.top + box[3] * scale};
  };
  for (let node = picture.parentElement; node; node = node.parentElement) {
    if (node.scrollWidth <= node.clientWidth || !/auto|scroll/.test(getComputedStyle(node).overflowX)) continue;
    const p = place(), r = node.getBoundingClientRect();
    if (p.right - p.left > r.width - 8) node.scrollLeft += (p.left + p.right) / 2 - (r.left + r.right) / 2;
    else node.scrollLeft += Math.min(0, p.left - r.left - 4) + Math.max(0, p.right - r.right + 4);
  }
  const p = place();
  if (p.top < 40 || p.bottom > innerHeight - 40) scrollBy(0, (p.top + p.bottom) / 2 - innerHeight / 2);
  return place();
}"""

# A point of the window that is not in the picture.
OUTSIDE = """picture => {
  const [w, h] = [innerWidth, innerHeight];
  const points = [[1, 1], [w - 2, 1], [1, h - 2], [w - 2, h - 2], [1, h / 2], [w - 2, h / 2], [w / 2, h - 2], [w / 2, 1]];
  return points.find(([x, y]) => { const top = document.elementFromPoint(x, y); return top && !picture.contains(top); }) || null;
}"""


def read_places(still):
    """The places of each picture by its id, from a page where no script runs."""
    return {picture["id"]: picture["places"] for picture in still.evaluate(PLACES)}


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def holds(outer, inner, slack=1):
    return all(outer[i] - slack <= inner[i] and inner[i + 2] <= outer[i + 2] + slack for i in (0, 1))


def alone(places):
    """Those with no other's middle beside theirs (places may overlap, and the nearest middle is meant), large enough for
    a mouse in whole pixels if there are such."""
    def near(p, q):
        (x, y), (u, v) = middle(p["box"]), middle(q["box"])
        return abs(x - u) + abs(y - v) < 4

    sample = places if len(places) <= 600 else places[:: len(places) // 300]
    chosen = [p for p in sample if sum(near(p, q) for q in places) == 1]
    wide = [p for p in chosen if min(p["box"][2] - p["box"][0], p["box"][3] - p["box"][1]) >= 3]
    return wide or chosen


def most_central(places):
    x, y = middle([f(p["box"][i] for p in places) for i, f in enumerate([min, min, max, max])])
    return min(places, key=lambda p: abs(middle(p["box"])[0] - x) + abs(middle(p["box"])[1] - y))


def point(handle, box):
    """The whole pixels in the middle of a place, after it was scrolled into view."""
    place = handle.evaluate(BRING, box)
    return int((place["left"] + place["right"]) / 2), int((place["top"] + place["bottom"]) / 2), place


def leave(page, handle):
    outside = handle.evaluate(OUTSIDE)
    if outside:
        page.mouse.move(*outside)
    return outside


def check_pictures(page, places):
    """All pictures of an open page; `places` by id."""
    problems = []
    for handle in page.query_selector_all(".cs-picture"):
        name = handle.get_attribute("data-candlescope")
        if not handle.evaluate("p => p.getClientRects().length"):
            if not handle.evaluate("p => Boolean(p.closest('[data-attention]'))"):
                problems.append(f"picture {name} is not shown")
            continue
        if not places.get(name):
            problems.append(f"picture {name} has no areas where scripts don't run")
            continue
        found = check_attributes(handle)
        found += check_mouse(page, handle, places[name]) + check_keys(page, handle, places[name])
        problems += [f"picture {name}: {problem}" for problem in found]
    return problems


def check_attributes(handle):
    wanted = {"data-ready": "1", "tabindex": "0", "role": "group"}
    found = {name: handle.get_attribute(name) for name in wanted}
    problems = [f"{name} is {found[name]!r}" for name in wanted if found[name] != wanted[name]]
    if not (handle.get_attribute("aria-label") or "").strip():
        problems.append("it has no aria-label")
    return problems


def check_mouse(page, handle, places):
    chosen = alone(places)
    if not chosen:
        return ["no place of it lies free of all others"]
    problems = []
    for place in [chosen[0], most_central(chosen), chosen[-1]]:
        title = place["title"]
        x, y, edges = point(handle, place["box"])
        page.mouse.move(x + 2, y + 2)
        page.mouse.move(x, y)

        def right():
            state = handle.evaluate(STATE)
            return state if state["tip"] and state["mark"] and state["tip"]["text"].strip() == title.strip() else None

        state = wait_for(page, right) or handle.evaluate(STATE)
        tip, mark = state["tip"], state["mark"]
        if not tip:
            problems.append(f"no tip over {title!r}")
        else:
            if tip["text"].strip() != title.strip():
                problems.append(f"the tip over {title!r} says {tip['text']!r}")
            if tip["role"] != "status":
                problems.append(f"the tip's role is {tip['role']!r}")
            for what in ("picture", "window"):
                if not holds(state[what], tip["box"]):
                    problems.append(f"the tip over {title!r} is not within the {what}: {tip['box']} in {state[what]}")
            if tip["covered"]:
                problems.append(f"the tip over {title!r} is covered at {tip['covered']} of 5 points")
        edges = [edges["left"], edges["top"], edges["right"], edges["bottom"]]
        if not mark:
            problems.append(f"no mark over {title!r}")
        elif max(abs(a - b) for a, b in zip(mark, edges)) > 4:
            problems.append(f"the mark over {title!r} is at {mark}, the place at {edges}")
    if not leave(page, handle):
        problems.append("the mouse can't leave it")
    elif not wait_for(page, lambda: hidden(handle)):
        problems.append("the tip or the mark stays when the mouse has left")
    return problems


def hidden(handle):
    state = handle.evaluate(STATE)
    return not state["tip"] and not state["mark"]


def check_keys(page, handle, places):
    leave(page, handle)
    handle.evaluate("p => p.focus({preventScroll: true})")
    titles = {place["title"].strip() for place in places}
    problems = []

    def press(key):
        page.keyboard.press(key)
        state = handle.evaluate(STATE)
        text = state["tip"]["text"].strip() if state["tip"] else None
        if text not in titles or not state["mark"]:
            problems.append(f"after {key} the tip says {text!r}" + ("" if state["mark"] else ", without a mark"))
        return text, state["mark"]

    press("ArrowRight")
    for key, place in [("Home", places[0]), ("End", places[-1])]:
        if press(key)[0] != place["title"].strip():
            problems.append(f"{key} does not lead to {place['title']!r}")
    if len(places) > 1:
        problems += check_arrows(press, places)
    page.keyboard.press("Escape")
    if not wait_for(page, lambda: hidden(handle)):
        problems.append("Escape does not hide the tip and the mark")
    return problems


def check_arrows(press, places):
    """In a regular grid each key goes one cell its way; elsewhere some key goes somewhere."""
    columns = {round(middle(p["box"])[0]) for p in places}
    rows = {round(middle(p["box"])[1]) for p in places}
    before = press("Home")
    if len(columns) * len(rows) != len(places):
        seen = [press(key) for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp")]
        moves = any(now[1] != before[1] for now in seen)
        return [] if moves else ["no arrow key leads from the first place to another one"]
    problems, ways = [], []
    if len(columns) > 1:
        ways += [("ArrowRight", 0, 1), ("ArrowLeft", 0, -1)]
    if len(rows) > 1:
        ways += [("ArrowDown", 1, 1), ("ArrowUp", 1, -1)]
    different = len({place["title"] for place in places}) == len(places)
    for key, axis, sign in ways:
        now = press(key)
        if before[1] and now[1]:
            step = [now[1][0] - before[1][0], now[1][1] - before[1][1]]
            if step[axis] * sign <= 0 or abs(step[1 - axis]) > 2:
                problems.append(f"{key} moves the mark by {step}")
        if different and now[0] == before[0]:
            problems.append(f"{key} does not change the tip's text")
        before = now
    return problems
