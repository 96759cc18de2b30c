"""Opens views of a hostile vocabulary in Chromium and uses them: tokens must stay text in every form.

For NAME.html: no script but our own, no attribute that is a script, no element that a token made, nothing that turns
the direction of text; and nothing of the kind after every place, token and button was under the mouse and the keys were
pressed. NAME.svg is well-formed and holds only shapes and text; NAME.txt no control characters but newlines; NAME.png
loads.
"""

import re
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree

from attention_view import LATTICE
from browser import finish, open_details, open_file, read_arguments, start_browser, tried, wait_for
from picture_hover import point, read_places
from screenshots import shoot

# What our views are made of.
TAGS = "html head meta title style script body div span p b i small font br table thead tbody tr th td a img map area"
TAGS += " pre code details summary button canvas label"
SVG_TAGS = "svg g title desc defs clipPath rect line polyline polygon path circle ellipse text tspan image"
# Characters that turn the direction of the text around them, and those that do so for themselves.
TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Pages with tables and no token in them.
WITHOUT_TOKENS = {"attribution"}
KEYS = ["ArrowRight", "ArrowDown", "End", "ArrowLeft", "ArrowUp", "Home", "Enter", "Space", "Escape"]
# More places than that are tried evenly.
MOST = 300

# All that tokens could have made of the document.
DOCUMENT = """tags => {
  const problems = [], allowed = new Set(tags), all = [...document.querySelectorAll('*')];
  const cut = text => JSON.stringify(text.slice(0, 80));
  for (const node of all) {
    if (!allowed.has(node.localName)) problems.push(`an element <${node.localName}>`);
    for (const a of node.attributes) {
      if (/^on/i.test(a.name)) problems.push(`an attribute ${a.name}=${cut(a.value)}`);
      if (/^(href|xlink:href|src|action|formaction|data|srcdoc)$/i.test(a.name)) {
        const image = /^(img|image)$/.test(node.localName) && a.value.startsWith('data:image/png;base64,');
        const link = node.localName === 'a' && /^(https?:\\/\\/|#)/.test(a.value);
        if (!image && !link) problems.push(`<${node.localName} ${a.name}=${cut(a.value)}>`);
      }
    }
    if (node.localName === 'script' && !node.textContent.trimStart().startsWith('(function')) problems.push(`a script ${cut(node.textContent)}`);
    if (node.localName === 'style' && !node.textContent.includes('.candlescope')) problems.push(`a style ${cut(node.textContent)}`);
    if (node.matches('code, .cs-tip, [aria-live], [role=status], span[tabindex], title') && node.firstElementChild)
      problems.push(`<${node.firstElementChild.localName}> within the text of a token`);
  }
  if (window.pwned !== undefined) problems.push('window.pwned is set');
  const shown = ['title', 'alt', 'aria-label', 'placeholder'];
  const texts = all.flatMap(node => shown.map(name => node.getAttribute(name)).filter(Boolean));
  return {problems: [...new Set(problems)], texts, text: document.documentElement.textContent,
    visible: document.body && document.body.checkVisibility() ? document.body.innerText : '',
    pictured: [...document.images].some(image => image.getBoundingClientRect().width > 0)};
}"""

# Elements that come later: our scripts add none while they are used.
WATCH = """() => {
  window.cameLater = [];
  const note = node => { if (node.nodeType === 1) cameLater.push(node.localName); };
  new MutationObserver(list => list.forEach(change => change.addedNodes.forEach(note)))
    .observe(document.documentElement, {childList: true, subtree: true});
}"""


def check_document(page, lists):
    found = page.evaluate(DOCUMENT, TAGS.split())
    problems = found["problems"]
    for what, text in [("the text", found["text"]), ("a title, alt or label", "\n".join(found["texts"]))]:
        if match := TURNING.search(text):
            before = text[max(0, match.start() - 20) : match.start()]
            problems.append(f"{what} holds U+{ord(match[0]):04X}, after {before!r}")
    # Where tokens are listed, one of them is this text; where they are in a picture, its places say it.
    listed = page.query_selector("code, table, [data-attention], [data-tokens]")
    said = "<script>" in found["visible"] or any("<script>" in text for text in found["texts"])
    if listed and not said and lists:
        problems.append("the tokens that it lists have no visible <script>")
    elif not listed and page.query_selector("area") and not any("<script>" in text for text in found["texts"]):
        problems.append("no place of the picture says <script>")
    if not found["visible"].strip() and not found["pictured"]:
        problems.append("nothing is visible")
    return problems


def some(items):
    return items if len(items) <= MOST else [items[i * len(items) // MOST] for i in range(MOST)]


def use(page, places):
    """Everything under the mouse, every button clicked, every key pressed."""
    for handle in page.query_selector_all(".cs-picture"):
        for place in some(places.get(handle.get_attribute("data-candlescope"), [])):
            x, y, _ = point(handle, place["box"])
            page.mouse.move(x, y)
    for canvas in page.query_selector_all("canvas"):
        if canvas.is_visible() and not canvas.evaluate("c => Boolean(c.closest('button'))"):
            for x, y in canvas.evaluate(LATTICE):
                page.mouse.move(x, y)
    shown = [node for node in page.query_selector_all("button, code, span[tabindex]") if node.is_visible()]
    for node in some(shown):
        node.scroll_into_view_if_needed()
        box = node.bounding_box()
        page.mouse.move(box["x"] + min(box["width"] / 2, 20), box["y"] + min(box["height"] / 2, 10))
        if node.evaluate("n => n.localName !== 'code'"):
            node.evaluate("n => n.click()")
    for node in some([node for node in page.query_selector_all("[tabindex], button, summary") if node.is_visible()]):
        node.focus()
        for key in KEYS:
            page.keyboard.press(key)
    return []


def check_use(page, places):
    page.evaluate(WATCH)
    problems = tried(use, page, places)
    page.wait_for_timeout(100)
    later = set(page.evaluate("() => window.cameLater || []"))
    return problems + ([f"elements came while it was used: {sorted(later)}"] if later else [])


def check_page(browser, path, out):
    lists = path.stem not in WITHOUT_TOKENS
    with open_file(browser, path, scripts=False) as (page, seen):
        open_details(page)
        places = read_places(page)
        problems = [f"before scripts: {problem}" for problem in tried(check_document, page, lists) + seen]
    with open_file(browser, path) as (page, seen):
        page.wait_for_timeout(100)
        open_details(page)
        first = tried(check_document, page, lists)
        found = first + tried(check_use, page, places)
        found += [problem for problem in tried(check_document, page, lists) if problem not in first]
        if out:
            shoot(page, out, f"hostile-{path.stem}")
        return problems + found + seen


def check_svg(browser, path, out):
    try:
        ElementTree.parse(path)
    except (ElementTree.ParseError, ValueError) as error:
        return [f"not well-formed: {error}"]
    with open_file(browser, path) as (page, seen):
        page.wait_for_timeout(50)
        found = page.evaluate(DOCUMENT, SVG_TAGS.split())
        problems = found["problems"]
        if page.evaluate("() => document.documentElement.localName") != "svg":
            problems.append("its root is not svg")
        if page.query_selector("parsererror"):
            problems.append("Chromium can't parse all of it")
        if match := TURNING.search(found["text"]):
            problems.append(f"the text holds U+{ord(match[0]):04X}")
        if out:
            page.screenshot(path=out / f"hostile-{path.stem}-svg.png")
        return problems + seen


def check_text(_browser, path, _out):
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        return [f"not UTF-8: {error}"]
    wrong = {c for c in text if c != "\n" and (unicodedata.category(c) == "Cc" or TURNING.match(c))}
    return [f"it holds U+{ord(c):04X}" for c in sorted(wrong)] + ([] if text.strip() else ["it is empty"])


def check_png(browser, path, _out):
    with open_file(browser, path) as (page, seen):
        loaded = "() => document.images.length === 1 && document.images[0].naturalWidth > 0"
        return seen + ([] if wait_for(page, lambda: page.evaluate(loaded)) else ["it does not load"])


def main():
    arguments = read_arguments(__doc__, "a folder with views of hostile tokens").parse_args()
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    problems, count = [], 0
    with start_browser() as browser:
        for ending, check in [("html", check_page), ("svg", check_svg), ("txt", check_text), ("png", check_png)]:
            paths = sorted(arguments.path.glob(f"*.{ending}"))
            count += len(paths)
            if not paths:
                problems.append(f"no .{ending} in {arguments.path}")
            for path in paths:
                found = [f"{path.name}: {problem}" for problem in tried(check, browser, path, arguments.out)]
                print(f"{path.name}: {len(found)} problems", flush=True)
                problems += found
    return finish(problems, f"{count} files of hostile views looked at")


if __name__ == "__main__":
    sys.exit(main())
