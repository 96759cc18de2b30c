"""Opens the gallery in Chromium: light and dark, on a desktop and a phone.

Fails on a message in the console, a file from outside of its folder, a page that scrolls sideways, and a view that does
not show in its three forms. With --out it leaves screenshots of the whole page.
"""

import sys

from browser import SIZES, finish, open_file, read_arguments, start_browser, tried, wait_for
from screenshots import shoot

# What is put off until it is scrolled to comes now.
HURRY = "() => document.querySelectorAll('img, iframe').forEach(node => { node.loading = 'eager'; })"
LOADED = "() => [...document.images].every(image => image.complete)"

LOOK = """() => {
  const sections = [...document.querySelectorAll('section[data-view]')].map(section => {
    const html = section.querySelector('.form-html'), image = section.querySelector('.form-picture img');
    // Only an error, which is a sentence, has no picture.
    const text = section.querySelector('.form-text pre');
    const filled = html && (html.textContent.trim() || html.querySelector('img, canvas, iframe'));
    const lacks = [];
    if (!filled) lacks.push('.form-html');
    if (!image && section.dataset.view !== 'error') lacks.push('.form-picture img');
    if (!text || !text.textContent.trim()) lacks.push('.form-text pre');
    return {name: section.dataset.view, lacks};
  });
  const broken = [...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(-80));
  const nameless = [...document.images].filter(image => !image.alt.trim() && !image.getAttribute('role')).map(image => image.src.slice(-80));
  return {sections, broken, nameless, wide: document.scrollingElement.scrollWidth, window: innerWidth};
}"""


def scroll_through(page):
    page.evaluate(HURRY)
    height = page.evaluate("() => document.documentElement.scrollHeight")
    for top in range(0, height, 700):
        page.evaluate("top => scrollTo(0, top)", top)
        page.wait_for_timeout(20)
    wait_for(page, lambda: page.evaluate(LOADED), 10)
    page.wait_for_load_state("load")


def check_gallery(page):
    scroll_through(page)
    look = page.evaluate(LOOK)
    names = [section["name"] for section in look["sections"]]
    problems = [] if names else ["there is no section[data-view]"]
    if len(set(names)) != len(names) or not all(names):
        problems.append(f"the names of the sections are not different: {names}")
    for section in look["sections"]:
        problems += [f"{section['name']}: {what} is missing or empty" for what in section["lacks"]]
    problems += [f"an image does not load: {source}" for source in look["broken"]]
    problems += [f"an image has neither alt nor role: {source}" for source in look["nameless"]]
    if look["wide"] > look["window"] + 1:
        problems.append(f"it scrolls sideways: {look['wide']} px wide in a window of {look['window']}")
    for frame in page.frames:
        if frame != page.main_frame and not frame.evaluate("() => document.body && document.body.childElementCount"):
            problems.append(f"an inner frame is empty: {frame.url[-80:]}")
    return problems


def main():
    arguments = read_arguments(__doc__, "the gallery's index.html").parse_args()
    problems = []
    with start_browser() as browser:
        for theme in ("light", "dark"):
            for size in SIZES:
                with open_file(browser, arguments.path, theme, size, within=arguments.path.parent) as (page, seen):
                    found = tried(check_gallery, page)
                    if arguments.out:
                        shoot(page, arguments.out, f"gallery-{theme}-{size}")
                    problems += [f"{theme}, {size}: {problem}" for problem in found + seen]
    return finish(problems, f"the gallery looked at in {2 * len(SIZES)} ways")


if __name__ == "__main__":
    sys.exit(main())
