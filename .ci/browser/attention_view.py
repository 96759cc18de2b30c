"""The attention view (`[data-attention]`): its heads, the large canvas and the tokens."""

import re

from browser import wait_for

CELL = re.compile(r"“(.*)” \(([^()]+)\) looks at “(.*)” \(([^()]+)\): (\S.*)$", re.DOTALL)
TURN = re.compile("where it looks|what looks at it")

# The points of an 8 by 8 lattice at which the canvas is on top, after it was scrolled into view.
LATTICE = """canvas => {
  canvas.scrollIntoView({block: 'nearest', inline: 'nearest'});
  const r = canvas.getBoundingClientRect(), n = 8;
  const edges = {left: Math.max(r.left, 0), right: Math.min(r.right, innerWidth), top: Math.max(r.top, 0), bottom: Math.min(r.bottom, innerHeight)};
  const points = [];
  for (let row = 0; row < n; row++) for (let col = 0; col < n; col++) {
    const x = Math.floor(edges.left + (col + 0.5) / n * (edges.right - edges.left));
    const y = Math.floor(edges.top + (row + 0.5) / n * (edges.bottom - edges.top));
    if (document.elementFromPoint(x, y) === canvas) points.push([x, y]);
  }
  return points;
}"""

LARGE = """root => [...root.querySelectorAll('canvas')].filter(c => !c.closest('button') && c.getClientRects().length)
  .sort((a, b) => b.clientWidth * b.clientHeight - a.clientWidth * a.clientHeight)[0]"""
COLOURS = "root => [...root.querySelectorAll('span[tabindex=\"0\"]')].map(s => getComputedStyle(s).backgroundColor)"


def names(text, name):
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def name_of(button):
    return (button.get_attribute("aria-label") or button.text_content()).strip()


class View:
    """The parts of one view on an open page."""

    def __init__(self, page, root):
        self.page, self.root = page, root
        self.buttons = [b for b in root.query_selector_all("[role=group] button") if b.is_visible()]
        self.heads = [name_of(button) for button in self.buttons]
        self.line = root.query_selector("[aria-live]")
        self.large = root.evaluate_handle(LARGE).as_element()
        self.spans = [span for span in root.query_selector_all('span[tabindex="0"]') if span.is_visible()]
        turns = root.query_selector_all("button")
        self.turn = next((b for b in turns if b.is_visible() and TURN.search(b.text_content())), None)

    def said(self):
        return self.line.text_content()

    def says(self, name):
        return wait_for(self.page, lambda: names(self.said(), name))

    def away(self):
        self.page.mouse.move(1, 1)

    def pressed(self):
        return [i for i, button in enumerate(self.buttons) if button.get_attribute("aria-pressed") == "true"]

    def colours(self):
        return self.root.evaluate(COLOURS)


def check_attention(page, tokens_needed, overview):
    roots = page.query_selector_all("[data-attention]")
    if not roots:
        return ["there is no [data-attention]"]
    problems = []
    for root in roots:
        if not root.get_attribute("data-ready"):
            problems.append("the attention view has no data-ready")
            continue
        view = View(page, root)
        missing = {"buttons of heads": view.buttons, "aria-live line": view.line, "large canvas": view.large}
        if tokens_needed:
            missing |= {"token spans": view.spans, "button `where it looks`": view.turn}
        lacks = [f"the attention view has no {what}" for what, part in missing.items() if not part]
        problems += lacks
        if lacks:
            continue
        problems += check_heads(view) + check_canvas(view)
        if view.spans and view.turn:
            problems += check_words(view)
        if overview:
            problems += check_overview(view)
    return problems


def check_heads(view):
    problems = []
    if len(set(view.heads)) != len(view.heads) or not all(view.heads):
        problems.append(f"the names of the heads are not different: {view.heads[:20]}")
    pressed = view.pressed()
    if len(pressed) != 1:
        return problems + [f"{len(pressed)} heads are pressed at first"]
    view.away()
    if not view.says(view.heads[pressed[0]]):
        problems.append(f"the line does not name the pressed head {view.heads[pressed[0]]}: {view.said()!r}")
    last = len(view.buttons) - 1
    for head in sorted({0, 1, last // 2, last} & set(range(last + 1))):
        view.buttons[head].hover()
        if not view.says(view.heads[head]):
            problems.append(f"the line does not name {view.heads[head]} under the mouse: {view.said()!r}")
    view.away()
    if not view.says(view.heads[pressed[0]]):
        problems.append(f"the line does not return to the head that is kept: {view.said()!r}")
    if last == 0:
        return problems
    chosen = last if pressed[0] != last else 0
    view.buttons[chosen].click()
    view.away()
    if not wait_for(view.page, lambda: view.pressed() == [chosen]):
        problems.append(f"a click on head {chosen} leaves these pressed: {view.pressed()}")
    if not view.says(view.heads[chosen]):
        problems.append(f"after a click on {view.heads[chosen]} the line says {view.said()!r}")
    focused = "button => document.activeElement === button"
    view.buttons[0].focus()
    for key, head in [("ArrowRight", 1), ("ArrowLeft", 0)]:
        view.page.keyboard.press(key)
        if not view.buttons[head].evaluate(focused):
            problems.append(f"{key} does not focus the head beside it")
        elif not view.says(view.heads[head]):
            problems.append(f"the line does not name {view.heads[head]} in focus: {view.said()!r}")
    view.buttons[last].focus()
    view.page.keyboard.press("ArrowRight")
    view.buttons[last].evaluate("button => button.blur()")
    return problems


def check_canvas(view):
    """Down the canvas the query's position grows, to the right the key's; the texts are those of the tokens."""
    view.large.scroll_into_view_if_needed()
    cells, texts, places = {}, set(), set()
    for x, y in view.large.evaluate(LATTICE):
        view.page.mouse.move(x, y)
        text = view.said()
        places.add(view.large.evaluate("c => Math.round(c.getBoundingClientRect().top)"))
        if match := CELL.search(text):
            cells[x, y] = match
        elif "looks at" in text:
            texts.add(text)
    problems = [f"the line over the canvas says {text!r}" for text in sorted(texts)[:3]]
    if len(places) > 1:
        # What is under the mouse is then another cell than a moment before.
        return problems + [f"the canvas moves up and down while the mouse is over it: its top is at {sorted(places)}"]
    if len({(m[2], m[4]) for m in cells.values()}) < 4:
        seen = sorted({m[0] for m in cells.values()})
        return problems + [f"over the canvas the line tells of too few cells: {seen}; at last {view.said()!r}"]
    number = {at: (int(re.match(r"\d+", m[2])[0]), int(re.match(r"\d+", m[4])[0])) for at, m in cells.items()}
    for (x, y), (query, key) in number.items():
        for (x2, y2), (query2, key2) in number.items():
            wrong = y == y2 and (query != query2 or (x < x2 and key > key2))
            if wrong or (x == x2 and (key != key2 or (y < y2 and query > query2))):
                return problems + [f"({x}, {y}) is {query}, {key} and ({x2}, {y2}) is {query2}, {key2}"]
    if len({q for q, _ in number.values()}) < 2 or len({k for _, k in number.values()}) < 2:
        problems.append("all cells of the canvas have one query or one key")
    if view.spans:
        words = [span.text_content() for span in view.spans]
        for m in cells.values():
            for text, place in [(m[1], m[2]), (m[3], m[4])]:
                if place.isdigit() and (int(place) >= len(words) or words[int(place)] != text):
                    problems.append(f"the line names {text!r} at {place}, which is not that token")
    shapes = {m[5] for m in cells.values()}
    if not any(re.fullmatch(r"[-−]?\d.*", value) for value in shapes):
        problems.append(f"no value on the canvas is a number: {sorted(shapes)[:5]}")
    view.page.mouse.move(*next(iter(cells)))
    view.away()
    if not wait_for(view.page, lambda: not CELL.search(view.said())):
        problems.append("the line still tells of a cell when the mouse has left the canvas")
    return problems[:6]


def check_words(view):
    problems = []
    view.away()
    before = view.colours()
    word = view.spans[len(view.spans) // 2]

    def other(colours):
        return wait_for(view.page, lambda: view.colours() != colours)

    def same(colours):
        return wait_for(view.page, lambda: view.colours() == colours)

    word.hover()
    other(before)
    over = view.colours()
    if over == before or len(set(over)) < 2:
        problems.append(f"hovering a token does not colour the tokens: {sorted(set(over))[:4]}")
    view.away()
    if not same(before):
        problems.append("the colours stay when the mouse has left a token")
    word.click()
    view.away()
    view.page.wait_for_timeout(60)
    if view.colours() != over:
        problems.append("a click on a token does not keep its colours")
    text = view.turn.text_content()
    view.turn.click()
    view.away()
    if not other(over):
        problems.append(f"the button {text!r} does not change the colours")
    if view.turn.text_content() == text or not TURN.search(view.turn.text_content()):
        problems.append(f"the button {text!r} says {view.turn.text_content()!r} after a click")
    view.turn.click()
    view.away()
    if not same(over):
        problems.append(f"the button {text!r}, clicked twice, does not bring the colours back")
    return problems


def check_overview(view):
    """One button for each layer and head."""
    pairs = [tuple(map(int, re.findall(r"\d+", name))) for name in view.heads]
    if any(len(pair) != 2 for pair in pairs):
        return [f"not every head has a layer and a number: {view.heads[:5]}"]
    layers, heads = {layer for layer, _ in pairs}, {head for _, head in pairs}
    if set(pairs) != {(layer, head) for layer in layers for head in heads} or len(layers) < 2:
        return [f"the buttons are not every head of every layer: {len(pairs)} of {len(layers)} x {len(heads)}"]
    return []
