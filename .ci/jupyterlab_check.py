"""Opens an executed notebook in JupyterLab in a headless Chromium and looks at its pictures as a reader does.

Every picture that the notebook holds must be visible: once in a notebook that JupyterLab does not trust (as one that
was just cloned), where it removes scripts from HTML, and once in a trusted one, where our scripts run. Fails on an
output that is an error, on a picture that does not load or is one flat colour, and when the attention view or the
heatmap is not among the pictures. Leaves screenshots.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

# What must be among the pictures: a name, and what the cell's source or output text says of it.
EXPECTED = {"attention view": r"attention|pattern\(", "heatmap": r"heat ?map|patch"}

LAB_SETTINGS = {
    # All cells are in the page, not only those near the window.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}

# The largest visible picture in the outputs of cell number arguments[0], or why there is none.
FIND_PICTURE = """
const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[arguments[0]];
if (!cell) return {why: 'the cell is not in the page'};
const pictures = [...cell.querySelectorAll('.jp-OutputArea-output img, .jp-OutputArea-output canvas, .jp-OutputArea-output svg')];
if (!pictures.length) return {why: 'no img, canvas or svg in its output'};
const area = p => { const r = p.getBoundingClientRect(); return r.width * r.height; };
const picture = pictures.sort((x, y) => area(y) - area(x))[0];
picture.scrollIntoView({block: 'center'});
if (area(picture) < 400) return {why: 'the picture has no size on the page'};
if (picture.tagName === 'IMG' && !(picture.complete && picture.naturalWidth > 0)) return {why: 'the img did not load'};
const r = picture.getBoundingClientRect();
const [x, y] = [(Math.max(r.left, 0) + Math.min(r.right, innerWidth)) / 2, (Math.max(r.top, 0) + Math.min(r.bottom, innerHeight)) / 2];
const top = document.elementFromPoint(x, y);
if (!top || !(cell.contains(top))) return {why: 'something covers the picture, or it is outside of the window'};
let colours = -1;
if (picture.tagName !== 'svg') {
  const copy = document.createElement('canvas');
  copy.width = copy.height = 128;
  const context = copy.getContext('2d');
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, 128, 128);
  colours = new Set(new Uint32Array(context.getImageData(0, 0, 128, 128).data.buffer)).size;
  if (colours < 3) return {why: `the picture has only ${colours} colours`};
}
return {tag: picture.tagName.toLowerCase(), width: Math.round(r.width), height: Math.round(r.height), colours};
"""


def text_of(value):
    return "".join(value) if isinstance(value, list) else str(value)


def read_notebook(path):
    """The numbers of the cells with a picture, and whatever is wrong with the file itself."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    problems, pictures, found = [], [], set()
    for number, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                problems.append(f"cell {number}: an error output: {output.get('ename')}: {output.get('evalue')}")
            data = {mime: text_of(content) for mime, content in output.get("data", {}).items()}
            # JupyterLab prefers HTML; tables, cards and token boxes are text there.
            html = data.get("text/html")
            if "image/png" not in data if html is None else not re.search("<(img|canvas|svg)", html):
                continue
            if number not in pictures:
                pictures.append(number)
            said = "\n".join([text_of(cell["source"]), data.get("text/plain", ""), data.get("text/html", "")])
            found |= {name for name, regex in EXPECTED.items() if re.search(regex, said, re.IGNORECASE)}
    problems += [f"no {name} among the pictures of the notebook" for name in EXPECTED if name not in found]
    return len(notebook["cells"]), pictures, problems


def start_lab(folder, root):
    """A JupyterLab that serves `root` with settings of its own, in `folder`; its process and address."""
    for name, settings in LAB_SETTINGS.items():
        path = folder / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={root}"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=lab_env(folder))
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
            return server, address
        except OSError:
            time.sleep(0.5)
    stop(server)
    sys.exit(f"JupyterLab did not start:\n{(folder / 'lab.log').read_text()}")


def lab_env(folder):
    settings = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTER_DATA_DIR": "data", "JUPYTER_CONFIG_DIR": "config"}
    return os.environ | {name: str(folder / sub) for name, sub in settings.items()}


def stop(server):
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()


@contextlib.contextmanager
def lab_in_browser(folder, root):
    """JupyterLab on `root` with its settings in `folder`, and Chromium: the browser, and the Lab's address."""
    server, address = start_lab(folder, root)
    try:
        browser = start_browser()
        try:
            yield browser, address
        finally:
            browser.quit()
    finally:
        stop(server)


def empty_folder(path):
    """Whatever was there before is gone."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def start_browser():
    options = Options()
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1500"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or "/usr/bin/chromedriver"))


def wait_for(condition, seconds):
    """The first true value of `condition()`, or its last one after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.3)
    return value


def look(browser, address, name, n_cells, pictures, out):
    """Opens one notebook, checks each picture, takes screenshots; returns what is wrong."""
    browser.get(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
    count = "return document.querySelectorAll('.jp-Notebook .jp-Cell').length"
    if not wait_for(lambda: browser.execute_script(count) >= n_cells, 120):
        browser.save_screenshot(str(out / f"{name}-not-open.png"))
        return [f"{name}: JupyterLab shows {browser.execute_script(count)} of {n_cells} cells after 120 s"]
    problems = []
    browser.save_screenshot(str(out / f"{name}-top.png"))
    for number in pictures:
        state = {}

        def visible():
            state.update({"why": None} | browser.execute_script(FIND_PICTURE, number))
            return not state["why"]

        ok = wait_for(visible, 20)
        time.sleep(0.3)
        browser.save_screenshot(str(out / f"{name}-cell{number:03}.png"))
        if ok:
            print(f"{name}: cell {number}: {state['tag']} {state['width']}x{state['height']}, visible")
        else:
            problems.append(f"{name}: cell {number}: {state['why']}")
    for entry in browser.get_log("browser"):
        if entry["level"] == "SEVERE":
            print(f"{name}: browser console: {entry['message'][:300]}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path, help="an executed .ipynb")
    parser.add_argument("--out", type=Path, required=True, help="folder for the screenshots")
    arguments = parser.parse_args()
    empty_folder(arguments.out)

    n_cells, pictures, problems = read_notebook(arguments.notebook)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = Path(folder)
        (folder / "root").mkdir()
        for name in ["untrusted", "trusted"]:
            shutil.copy(arguments.notebook, folder / "root" / f"{name}.ipynb")
        # A signature is of the content, not of the path: the trusted copy has to differ.
        trusted = folder / "root" / "trusted.ipynb"
        content = json.loads(trusted.read_text(encoding="utf-8"))
        content["metadata"]["candlescope_check"] = "trusted"
        trusted.write_text(json.dumps(content), encoding="utf-8")
        trust = [sys.executable, "-m", "jupyter", "trust", str(trusted)]
        subprocess.run(trust, check=True, env=lab_env(folder), stdin=subprocess.DEVNULL)

        with lab_in_browser(folder, folder / "root") as (browser, address):
            for name in ["untrusted", "trusted"]:
                problems += look(browser, address, name, n_cells, pictures, arguments.out)
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    print(f"{len(pictures)} pictures looked at in two ways; screenshots in {arguments.out}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
