"""Chromium under Playwright: starting it, opening a file, and everything that a page of ours must not do."""

import argparse
import contextlib
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@contextlib.contextmanager
def start_browser():
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or "/usr/bin/chromium"
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_file(browser, path, theme="light", size="desktop", scripts=True, init="", within=None):
    """The page, loaded, and a list that grows by a sentence for each thing that it must not do.

    Those are messages of the console that are errors or warnings, errors of scripts, dialogs, new windows, leaving the
    page, and requests: for any file but `path`, or but those in the folder `within`.
    """
    address, (width, height) = Path(path).resolve().as_uri(), SIZES[size]
    folder = Path(within).resolve().as_uri() + "/" if within else None
    viewport = {"width": width, "height": height}
    context = browser.new_context(color_scheme=theme, viewport=viewport, java_script_enabled=scripts)
    context.set_default_timeout(5000)
    if init:
        context.add_init_script(init)
    page, seen = context.new_page(), []

    def asked(request):
        url = request.url.split("#")[0]
        if not (url.startswith("data:") or url == address or (folder and url.startswith(folder))):
            seen.append(f"a request: {url[:200]}")

    def said(message):
        if message.type in ("error", "warning", "assert"):
            seen.append(f"console {message.type}: {message.text[:300]}")

    def dialog(dialog):
        seen.append(f"a dialog: {dialog.message[:100]}")
        dialog.dismiss()

    def moved(frame):
        if frame == page.main_frame and frame.url.split("#")[0] not in (address, "about:blank"):
            seen.append(f"the page left for {frame.url[:200]}")

    page.on("request", asked)
    page.on("console", said)
    page.on("dialog", dialog)
    page.on("framenavigated", moved)
    page.on("pageerror", lambda error: seen.append(f"page error: {str(error)[:300]}"))
    page.on("requestfailed", lambda request: seen.append(f"a request that failed: {request.url[:200]}"))
    page.on("popup", lambda popup: seen.append(f"a new window: {popup.url[:200]}"))
    page.on("crash", lambda _: seen.append("the page crashed"))
    try:
        page.goto(address)
        yield page, seen
    finally:
        context.close()


def wait_for(page, condition, seconds=1.0):
    """The first true value of `condition()`, or its last one after `seconds`."""
    for _ in range(int(seconds / 0.03)):
        if value := condition():
            return value
        page.wait_for_timeout(30)
    return condition()


def tried(check, *arguments):
    """The problems that a check returns; or, as one more problem, why it could not go on."""
    try:
        return check(*arguments)
    except Error as error:
        return [f"{check.__name__} could not go on: {error.message.splitlines()[0][:300]}"]


def open_details(page):
    page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")


def read_arguments(description, what="a folder with saved views"):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, metavar="FOLDER" if "folder" in what else "FILE", help=what)
    parser.add_argument("--out", type=Path, help="folder for screenshots")
    return parser


def finish(problems, summary):
    """Prints all problems; the exit status."""
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    print(f"{summary}; {len(problems)} problems")
    return 1 if problems else 0
