"""Opens every saved view of a folder in Chromium: light and dark, on a desktop and a phone, with and without scripts.

Fails on a message in the console, a request, a page that scrolls sideways, a picture that does not load or has no text
in its place, a theme that does not follow, a large file; and when what views do under the mouse and the keys is not
what it should be. With --out it leaves screenshots of every page.
"""

import re
import sys

from attention_view import check_attention
from browser import finish, open_details, open_file, read_arguments, start_browser, tried
from picture_hover import check_pictures, read_places
from screenshots import shoot
from token_boxes import check_tokens, read_titles

# Both themes and both sizes; the gallery is looked at in all four combinations.
WAYS = [("light", "desktop"), ("dark", "phone")]
LARGEST = 500_000

LOOK = """() => {
  const frames = [...document.querySelectorAll('.candlescope')].map(frame => {
    const style = getComputedStyle(frame);
    return {outer: !frame.parentElement.closest('.candlescope'), filter: style.filter, background: style.backgroundColor};
  });
  const images = [...document.images].map(image => ({
    loaded: image.complete && image.naturalWidth > 0, named: Boolean(image.alt.trim() || image.getAttribute('role')),
    source: image.src.slice(0, 60),
  }));
  return {frames, images, page: document.documentElement.classList.contains('cs-page'),
    wide: document.scrollingElement.scrollWidth, window: innerWidth};
}"""

# What a reader sees where no script runs.
STILL = """() => {
  const shown = node => node.checkVisibility({visibilityProperty: true}) && node.getBoundingClientRect().width > 0;
  return [...document.querySelectorAll('table, pre')].some(shown) || document.body.innerText.trim().length >= 10 ||
    [...document.images].some(image => shown(image) && image.naturalWidth > 0);
}"""


def check_look(page, theme):
    look = page.evaluate(LOOK)
    problems = [] if look["page"] else ["html has not the class cs-page"]
    if not look["frames"]:
        problems.append("there is no .candlescope")
    for frame in look["frames"]:
        where = "outermost" if frame["outer"] else "nested"
        if frame["outer"] and theme == "dark":
            if "invert" not in frame["filter"]:
                problems.append(f"the filter of the outermost frame is {frame['filter']}")
        elif frame["filter"] != "none":
            problems.append(f"the filter of a frame ({where}) is {frame['filter']}")
        if frame["outer"] and frame["background"] != "rgb(255, 255, 255)":
            problems.append(f"the background of the outermost frame is {frame['background']}")
    for image in look["images"]:
        if not image["loaded"]:
            problems.append(f"an image is not loaded: {image['source']}")
        if not image["named"]:
            problems.append(f"an image has neither alt nor role: {image['source']}")
    if look["wide"] > look["window"] + 1:
        problems.append(f"the page scrolls sideways: {look['wide']} px wide in a window of {look['window']}")
    open_details(page)
    wide = page.evaluate("() => document.scrollingElement.scrollWidth")
    if look["window"] + 1 >= look["wide"] and wide > look["window"] + 1:
        problems.append(f"the page scrolls sideways when its details are open: {wide} px")
    return problems


def check_still(page):
    return [] if page.evaluate(STILL) else ["nothing shows where scripts don't run"]


def check_tried(page, name, places, titles):
    """What happens under the mouse and the keys."""
    problems = []
    if page.query_selector(".cs-picture"):
        problems += tried(check_pictures, page, places)
    overview = name == "attention_overview"
    if name == "attention" or page.query_selector("[data-attention]") or overview:
        problems += tried(check_attention, page, name == "attention", overview)
    if name == "tokens_series" or page.query_selector("[data-tokens]"):
        problems += tried(check_tokens, page, titles, name == "tokens_series")
    return problems


def check_view(browser, path, out, large):
    problems, size = [], path.stat().st_size
    if size > LARGEST and path.stem not in large:
        problems.append(f"{size / 1000:.0f} kB; at most {LARGEST // 1000} are allowed")
    with open_file(browser, path, scripts=False) as (still, _):
        problems += tried(check_still, still)
        places, titles = read_places(still), read_titles(still)
    for theme, size in WAYS:
        with open_file(browser, path, theme, size) as (page, seen):
            page.wait_for_timeout(50)
            if out:
                shoot(page, out, f"{path.stem}-{theme}-{size}")
            found = tried(check_look, page, theme) + check_tried(page, path.stem, places, titles)
            page.wait_for_timeout(50)
            problems += [f"{theme}, {size}: {problem}" for problem in found + seen]
    return [f"{path.name}: {problem}" for problem in problems]


def main():
    parser = read_arguments(__doc__)
    parser.add_argument("--large", action="append", default=[], metavar="NAME", help="a view that may be over 500 kB")
    parser.add_argument("--only", default="", metavar="REGEX", help="only the files with such a name")
    arguments = parser.parse_args()
    paths = [path for path in sorted(arguments.path.glob("*.html")) if re.search(arguments.only, path.stem)]
    problems = [] if paths else [f"no .html in {arguments.path}"]
    with start_browser() as browser:
        for path in paths:
            found = tried(check_view, browser, path, arguments.out, arguments.large)
            print(f"{path.name}: {path.stat().st_size // 1000} kB, {len(found)} problems", flush=True)
            problems += found
    return finish(problems, f"{len(paths)} views looked at in {len(WAYS)} ways and without scripts")


if __name__ == "__main__":
    sys.exit(main())
