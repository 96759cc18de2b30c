"""Tokens as boxes (`[data-tokens]`): their series, and the text under the pointer."""

from browser import wait_for

# By root, what each token says under the pointer. Our script takes the titles away: the browser's own would come twice.
TITLES = """() => [...document.querySelectorAll('[data-tokens]')]
  .map(root => [...root.querySelectorAll('code')].map(code => code.title))"""
COLOURS = "root => [...root.querySelectorAll('code')].map(code => getComputedStyle(code).backgroundColor)"


def read_titles(still):
    """The tokens' titles for each `[data-tokens]`, from a page where no script runs."""
    return still.evaluate(TITLES)


def check_tokens(page, titles, series_needed):
    roots = page.query_selector_all("[data-tokens]")
    problems = [] if roots else ["there is no [data-tokens]"]
    for root, first in zip(roots, titles):
        codes, line = root.query_selector_all("code"), root.query_selector("[role=status]")
        if not codes or not line:
            problems.append(f"the token boxes have no {'code elements' if line else '[role=status]'}")
            continue
        problems += check_hover(page, codes, line, first)
        buttons = root.query_selector_all("[role=group] button[aria-pressed]")
        if len(buttons) > 1:
            problems += check_series(page, root, buttons, codes, line)
        elif series_needed:
            problems.append(f"{len(buttons)} buttons with aria-pressed in a [role=group]: several are expected")
    return problems


def check_hover(page, codes, line, titles):
    problems = []
    for i in sorted({0, len(codes) // 2, len(codes) - 1}):
        title = codes[i].get_attribute("title") or titles[i]
        codes[i].hover()
        if not title or not wait_for(page, lambda: title in line.text_content()):
            problems.append(f"over the token with the title {title!r} the line says {line.text_content()!r}")
        if not line.is_visible():
            problems.append("the line with the token's text is not visible")
    page.mouse.move(1, 1)
    return problems


def check_series(page, root, buttons, codes, line):
    def pressed():
        return [i for i, button in enumerate(buttons) if button.get_attribute("aria-pressed") == "true"]

    problems = [] if len(pressed()) == 1 else [f"{len(pressed())} series are pressed at first"]
    first = (pressed() or [0])[0]
    order = [i for i in range(len(buttons)) if i != first] + [first]

    def look():
        codes[-1].hover()
        return root.evaluate(COLOURS), line.text_content()

    seen, last = {first: look()}, first
    for i in order:
        buttons[i].click()
        page.mouse.move(1, 1)
        if not wait_for(page, lambda: pressed() == [i]):
            problems.append(f"a click on series {i} leaves these pressed: {pressed()}")
        (colours, text), name = look(), buttons[i].text_content().strip()
        if colours == seen[last][0]:
            problems.append(f"from series {last} to {i} the colours of the tokens stay the same")
        # A token may tell of the series that is shown, or of all of them by their names.
        if text == seen[last][1] and name not in text:
            problems.append(f"with series {name!r} a token says the same as before, and does not name it: {text!r}")
        if i in seen and (colours, text) != seen[i]:
            problems.append(f"series {i} looks different the second time")
        seen[i], last = (colours, text), i
    page.mouse.move(1, 1)
    return problems
