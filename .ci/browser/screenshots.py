"""Screenshots of whole pages, in files that are not too large to look at."""

import math

HIGHEST = 6000
LARGEST_PNG = 1_500_000


def shoot(page, out, name):
    """NAME.png, or NAME-1.png and so on for a high page; JPEG where PNG were large."""
    out.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size
    height = page.evaluate("() => document.documentElement.scrollHeight")
    parts = max(1, math.ceil(height / HIGHEST))
    for part in range(parts):
        top = part * HIGHEST
        # A window as high as the part: Chromium draws no inner frames that are out of the window.
        page.set_viewport_size({"width": size["width"], "height": max(1, min(HIGHEST, height - top))})
        page.evaluate("top => scrollTo(0, top)", top)
        page.wait_for_timeout(100 if part == 0 and height <= HIGHEST else 500)
        path = out / (f"{name}-{part + 1}.png" if parts > 1 else f"{name}.png")
        path.with_suffix(".jpg").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        picture = page.screenshot()
        if len(picture) > LARGEST_PNG:
            path = path.with_suffix(".jpg")
            picture = page.screenshot(type="jpeg", quality=70)
        path.write_bytes(picture)
    page.set_viewport_size(size)
    page.evaluate("() => scrollTo(0, 0)")
