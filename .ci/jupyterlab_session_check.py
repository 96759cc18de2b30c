"""Works with the kernel in JupyterLab in a headless Chromium as a person does, by keys and buttons.

Runs cells, completes a name, looks up its documentation, watches a bar, interrupts by keys and by the button, and
restarts. The first step that does not do what a person would expect ends it. Leaves the notebook, and a screenshot of
each step.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from jupyterlab_check import empty_folder, lab_in_browser, wait_for
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CELLS = {
    "prelude": "use candlescope::prelude::*;",
    "load": 'let model = HookedTransformer::from_pretrained("tiny")?;',
    "card": "model",
    "half a name": "model.run_with_ca",
    "a name": "model.run_with_cache",
    "passes": 'model.over(vec!["John gave a book to Mary. ".repeat(4); 20000]).loss()?;',
    "draws": """let mut live = Live::new();
for n in 2..=5 {
    live.update(&LineChart::new().series("loss", (0..n).map(f64::from)).title(format!("after {n}")));
    std::thread::sleep(std::time::Duration::from_millis(1200));
}
live.finish(&LineChart::new().series("loss", [3.0, 1.0]).title("at the end"));""",
    "sweeps": 'loop { model.sweep("John gave a book to Mary.").at("z").zero().measure(metric::loss()).run()?; }',
    "kept": "model.cfg().n_layers",
    "gone": "model",
    "sum": "1 + 1",
}

# What cell number arguments[0] shows. JupyterLab gives errors the type of standard error.
LOOK_AT_CELL = """
const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[arguments[0]];
const outputs = [...cell.querySelectorAll('.jp-OutputArea-output')];
const errors = outputs.filter(o => o.dataset.mimeType === 'application/vnd.jupyter.stderr');
return {
  prompt: cell.querySelector('.jp-InputPrompt').innerText.trim(),
  source: cell.querySelector('.cm-content').innerText,
  text: outputs.map(o => o.innerText).join('\\n').trim(),
  error: errors.map(o => o.innerText).join('\\n').trim(),
  bars: cell.querySelectorAll('.jp-OutputArea-output progress').length,
};
"""
# Every output of cell number arguments[0], as it is in the page.
OUTPUTS = """
const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[arguments[0]];
return [...cell.querySelectorAll('.jp-OutputArea-output')].map(output => output.innerHTML);
"""
VISIBLE_TEXTS = """
const elements = [...document.querySelectorAll(arguments[0])].filter(element => element.checkVisibility());
return elements.map(element => element.innerText.trim()).filter(text => text);
"""
KERNEL_STATUS = "return document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status"
INTERRUPT_BUTTON = ".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']"


class Wrong(Exception):
    """What a person would not have expected."""


class Person:
    """Somebody in front of a notebook."""

    def __init__(self, browser, notebook, out):
        self.browser, self.notebook, self.out = browser, notebook, out
        self.steps, self.started = 0, time.monotonic()

    def photograph(self, name):
        self.steps += 1
        self.browser.save_screenshot(str(self.out / f"{self.steps:02}-{name}.png"))
        print(f"{time.monotonic() - self.started:5.1f} s  {name}")

    def expect(self, what, condition, seconds=60):
        """The first true value of `condition()`; an end with `what` when it does not become true."""
        value = wait_for(condition, seconds)
        if not value:
            raise Wrong(f"{what}: not within {seconds} s")
        return value

    def shown(self, css):
        """The texts of visible elements."""
        return self.browser.execute_script(VISIBLE_TEXTS, css)

    def see(self, name):
        return self.browser.execute_script(LOOK_AT_CELL, list(CELLS).index(name))

    def press(self, *keys, holding=None):
        actions = ActionChains(self.browser)
        if holding:
            actions.key_down(holding)
        actions.send_keys(*keys)
        if holding:
            actions.key_up(holding)
        actions.perform()

    def enter(self, name):
        """Puts the cursor behind the last character of a cell."""
        cell = self.browser.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-Cell")[list(CELLS).index(name)]
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
        cell.find_element(By.CSS_SELECTOR, ".cm-line").click()
        self.press(Keys.END)

    def begin(self, name):
        self.enter(name)
        self.press(Keys.ENTER, holding=Keys.CONTROL)

    def end_of(self, name, seconds=60):
        """What a cell shows when it has run."""

        def ended():
            seen = self.see(name)
            return seen if re.fullmatch(r"\[\d+\]:", seen["prompt"]) else None

        return self.expect(f"the cell {CELLS[name]!r} ends", ended, seconds)

    def run(self, name, seconds=60):
        """What a cell shows that goes well."""
        self.begin(name)
        seen = self.end_of(name, seconds)
        if seen["error"]:
            raise Wrong(f"the cell {CELLS[name]!r} ends with an error: {seen['error']}")
        return seen

    def must(self, seen, is_so, what):
        if not is_so:
            raise Wrong(f"{what}; the cell shows {seen['text']!r}")

    def wait_until_idle(self, seconds=120):
        self.expect("the kernel is idle", lambda: self.browser.execute_script(KERNEL_STATUS) == "idle", seconds)


def opens(person):
    count = "return document.querySelectorAll('.jp-Notebook .jp-Cell').length"
    person.expect("JupyterLab shows the cells", lambda: person.browser.execute_script(count) == len(CELLS), 120)
    person.wait_until_idle()
    person.photograph("open")


def runs(person):
    # The first cell waits for the session library, should it not be built.
    person.run("prelude", 900)
    person.run("load")
    seen = person.run("card")
    person.must(seen, re.search(r"tiny\s.*layers\s+3\s", seen["text"], re.DOTALL), "the model does not show its card")
    person.photograph("run")


def completes(person):
    person.enter("half a name")
    person.press(Keys.TAB)
    names = person.expect("Tab offers names", lambda: person.shown(".jp-Completer-item .jp-Completer-match"))
    if not all(name.startswith("run_with_cache") for name in names):
        raise Wrong(f"Tab offers {names} behind {CELLS['half a name']!r}")
    person.photograph("complete")
    person.press(Keys.ENTER)
    person.expect("Enter takes the name", lambda: "model.run_with_cache" in person.see("half a name")["source"], 10)
    person.photograph("completed")


def explains(person):
    person.enter("a name")
    person.press(Keys.TAB, holding=Keys.SHIFT)
    texts = person.expect("Shift-Tab shows a tooltip", lambda: person.shown(".jp-Tooltip"))
    if "pub fn run_with_cache" not in texts[0] or "keeps every activation" not in texts[0]:
        raise Wrong(f"the tooltip of run_with_cache says {texts[0]!r}")
    person.photograph("hover")
    person.press(Keys.ESCAPE)


def shows_progress(person):
    def bar():
        seen = person.see("passes")
        return seen["text"] if seen["bars"] else None

    person.begin("passes")
    first = person.expect("a bar is shown", bar)
    later = person.expect("the bar's text changes", lambda: (text := bar()) != first and text, 20)
    person.photograph("progress")
    print(f"         {first!r}, then {later!r}")
    person.press("ii")
    seen = person.end_of("passes")
    person.must(seen, seen["error"].startswith("interrupt"), "the keys I I do not interrupt it")
    person.photograph("progress-interrupted")


def draws_in_place(person):
    def outputs():
        return person.browser.execute_script(OUTPUTS, list(CELLS).index("draws"))

    person.begin("draws")
    first = person.expect("a picture", outputs)
    person.expect("another picture in its place", lambda: len(outputs()) == 1 and outputs() != first)
    person.photograph("live")
    person.end_of("draws")
    person.expect("the last picture alone", lambda: len(outputs()) == 1 and outputs() != first)
    person.photograph("last")


def interrupts(person):
    person.begin("sweeps")
    person.expect("the sweeps run", lambda: person.see("sweeps")["prompt"] == "[*]:", 20)
    time.sleep(2)
    asked = time.monotonic()
    person.browser.find_element(By.CSS_SELECTOR, INTERRUPT_BUTTON).click()
    seen = person.end_of("sweeps")
    print(f"         the stop button ended the sweeps in {time.monotonic() - asked:.1f} s")
    person.must(seen, seen["error"].startswith("interrupt"), "the stop button does not interrupt the sweeps")
    seen = person.run("kept")
    person.must(seen, seen["text"].isdigit(), "the model does not outlive the interrupt")
    person.photograph("interrupt")


def restarts(person):
    person.press("00")
    person.expect("a dialog asks about the restart", lambda: person.shown(".jp-Dialog"))
    person.photograph("restart-dialog")
    person.browser.find_element(By.CSS_SELECTOR, ".jp-Dialog .jp-mod-accept").click()
    person.expect("the dialog goes", lambda: not person.shown(".jp-Dialog"))
    person.wait_until_idle()
    person.begin("gone")
    seen = person.end_of("gone", 120)
    person.must(seen, "model" in seen["error"], "a restart leaves the model")
    seen = person.run("sum")
    person.must(seen, seen["text"] == "2", "1 + 1 is not 2 after a restart")
    person.photograph("restart")


def saves(person):
    def outputs():
        cells = json.loads(person.notebook.read_text(encoding="utf-8"))["cells"]
        return [output["output_type"] for cell in cells for output in cell["outputs"]]

    person.press("s", holding=Keys.CONTROL)
    person.expect("Ctrl-S saves the outputs", lambda: outputs()[-2:] == ["error", "execute_result"], 20)
    if "display_data" not in outputs():
        raise Wrong(f"the saved notebook has no bar: its outputs are {outputs()}")


def write_notebook(path):
    cells = [
        {"cell_type": "code", "id": f"cell{number}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for number, source in enumerate(CELLS.values())
    ]
    kernel = {"name": "candlescope", "display_name": "Rust (candlescope)", "language": "rust"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", type=Path, help="folder for the notebook")
    parser.add_argument("--out", type=Path, required=True, help="folder for the screenshots")
    arguments = parser.parse_args()
    empty_folder(arguments.out)
    arguments.notebooks.mkdir(parents=True, exist_ok=True)
    notebook = arguments.notebooks / "session.ipynb"
    write_notebook(notebook)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with lab_in_browser(Path(folder), arguments.notebooks.resolve()) as (browser, address):
            person = Person(browser, notebook, arguments.out)
            browser.get(f"{address}/lab/workspaces/session/tree/session.ipynb?reset")
            for step in [opens, runs, completes, explains, shows_progress, draws_in_place, interrupts, restarts, saves]:
                try:
                    step(person)
                except Exception as problem:
                    print((Path(folder) / "lab.log").read_text()[-4000:], file=sys.stderr)
                    print(f"FAILED: the step {step.__name__!r}: {problem}", file=sys.stderr)
                    person.photograph("failed")
                    return 1
    print(f"{person.steps} screenshots in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
