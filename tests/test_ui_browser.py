"""The web page in a real browser: the whole way with a French file, by mouse and by keyboard, judged by axe.

Pictures of each step go to the folder that SCREENSHOTS names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_pipeline_served import report
from test_ui import KEYS, LABELS, Page, french_csv
from test_ui_queue import asked, careful

from llmtasker import LLM
from llmtasker.testing import FakeTransport

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import Page as Tab

MESSAGES = ("Toujours rien reçu de mon colis", "Vous m’avez prélevé deux fois", "Le livreur est parti", "nonsense")
ROWS = [(f"{n:04d}", f"{MESSAGES[n % 4]} n° {n}", ("livraison", "facturation")[n % 4 == 1]) for n in range(120)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.getuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("browser")) as page:
        yield page


class Walk:
    """A person at a browser: the errors of the browser, and its requests."""

    def __init__(
        self, chromium: Chromium, served: Page, *, language: str, width: int = 1440, height: int = 900
    ) -> None:
        from axe_playwright_python.sync_playwright import Axe

        self._axe, self.language, self._served = Axe(), language, served
        viewport: Any = {"width": width, "height": height}
        context = chromium.new_context(locale={"fr": "fr-FR", "en": "en-GB"}[language], viewport=viewport)
        self.tab: Tab = context.new_page()
        self.tab.set_default_timeout(15_000)
        self.complaints = list[str]()
        self.asked = list[str]()
        self.tab.on("console", lambda said: self.complaints.append(said.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self._places = 0

    def sign_in(self) -> Tab:
        self.tab.goto(self._served.url + "/")
        self.look("sign-in")
        self.tab.fill("#key", KEYS["ann"])
        self.tab.keyboard.press("Enter")
        self.tab.wait_for_selector("#file")
        return self.tab

    def look(self, name: str) -> None:
        """Check the page in both themes, and take screenshots."""
        self._places += 1
        folder = os.environ.get("SCREENSHOTS")
        for theme in ("light", "dark"):
            self.tab.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
            if folder:
                Path(folder).mkdir(parents=True, exist_ok=True)
                self.tab.screenshot(path=f"{folder}/{self._places:02d}-{name}-{self.language}-{theme}.png")
            found = self._axe.run(self.tab).response["violations"]
            wrong = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
            assert not wrong, (name, theme, wrong)
        assert not self.tab.evaluate("document.documentElement.scrollWidth > innerWidth"), (
            f"{name} is wider than the window"
        )

    def end(self) -> None:
        self.tab.context.close()
        assert self.complaints == []
        elsewhere = {url for url in self.asked if not url.startswith((self._served.url, "blob:", "data:"))}
        assert not elsewhere


@pytest.mark.parametrize(("language", "width"), [("fr", 1440), ("en", 360), ("en", 768)])
def test_the_whole_way(chromium: Chromium, served: Page, tmp_path: Path, language: str, width: int) -> None:
    walk = Walk(chromium, served, language=language, width=width)
    tab = walk.sign_in()
    walk.look("begin")
    file = tmp_path / "messages_octobre.csv"
    file.write_bytes(french_csv(ROWS))
    tab.set_input_files("#file", file)
    tab.click(".main-act")
    walk.look("file")
    tab.click(".main-act")
    tab.click("details.menu summary")
    tab.select_option("#source", "equipe")
    tab.click("button[value=from_column]")
    tab.wait_for_selector("[name=label][value=livraison]")
    tab.fill("textarea[name=meaning] >> nth=0", "colis, livreur")
    tab.wait_for_selector("#prompt mark:has-text('colis, livreur')")  # the prompt follows what is typed
    tab.fill("[name=rules]", "Un supplément est une facturation.")
    tab.wait_for_selector("#prompt mark:has-text('supplément')")
    walk.look("labels")
    assert tab.evaluate(
        "[...document.querySelectorAll('.opts select')].every(one => one.getBoundingClientRect().right"
        " <= one.closest('fieldset').getBoundingClientRect().right + 1)"
    ), "a list of choices goes over the edge"
    tab.click("button[value=try]")
    tab.wait_for_selector("button[value=run]")
    walk.look("tried")
    tab.click("button[value=run]")
    tab.wait_for_selector("a.main-act")
    walk.look("run")
    tab.click("a.main-act")
    walk.look("results")
    tab.click("#rows tr:nth-child(2) a")
    tab.wait_for_selector("#row[data-number='2']")
    walk.look("row")
    if width < 1400:
        tab.click("#row .shut")
    tab.goto(tab.url.partition("?")[0].partition("#")[0].replace("/results", "/evaluation"))
    walk.look("evaluation")
    tab.goto(served.url + "/")
    walk.look("list")
    walk.end()


@pytest.mark.parametrize("width", [1440, 360])
def test_nested_answers_fit(chromium: Chromium, tmp_path: Path, width: int) -> None:
    with Page(tmp_path, tasks={"report": report}) as served:
        walk = Walk(chromium, served, language="fr", width=width)
        tab = walk.sign_in()
        project = served.browser().upload(french_csv(ROWS[:30]))
        tab.goto(f"{served.url}{project}/file")
        tab.click("label:has([name=kind][value=report])")
        tab.click(".main-act")
        walk.look("pipeline")
        tab.click("button[value=try]")
        tab.wait_for_selector("button[value=run]")
        walk.look("nested-tried")
        tab.goto(f"{served.url}{project}/results?row=1")
        walk.look("nested-row")
        walk.end()


def test_labels_by_keyboard(chromium: Chromium, served: Page) -> None:
    """Tab reaches the table; a number labels and goes to the next row, `u` undoes, `x` picks; fields take letters."""
    ann = served.browser()
    project = ann.described(french_csv(ROWS))
    ann.run(project)
    walk = Walk(chromium, served, language="fr")
    tab = walk.sign_in()
    tab.goto(f"{served.url}{project}/results")
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.closest('#rows') !== null"):
            break
    tab.keyboard.press("j")
    tab.wait_for_selector("#rows tr[data-row='2'][aria-current]")
    tab.wait_for_selector("#row[data-number='2']")
    tab.keyboard.press("1")
    tab.wait_for_selector("#rows tr[data-row='2'] .i-edit")
    tab.wait_for_selector("#rows tr[data-row='3'][aria-current]")
    first, second = LABELS
    assert tab.inner_text("#rows tr[data-row='2'] .chip") == first
    tab.wait_for_selector("#row[data-number='3']")
    tab.keyboard.press("u")
    tab.wait_for_selector("#rows tr[data-row='2'] .i-edit", state="detached")
    tab.wait_for_function(
        "label => document.querySelector(\"#rows tr[data-row='2'] .chip\").textContent === label", arg=second
    )
    tab.keyboard.press("x")
    assert tab.is_checked("#rows tr[aria-current] input")
    assert tab.is_visible(".bulk")
    tab.keyboard.press("/")
    tab.keyboard.type("12u")
    assert tab.input_value("#q") == "12u"
    assert tab.locator("#rows .i-edit").count() == 0
    walk.end()


def test_several_labels_by_keyboard(chromium: Chromium, served: Page) -> None:
    """A number gives or takes away a label of the open row; `a` goes on; what is refused is said where it belongs."""
    ann = served.browser()
    project = ann.described(french_csv(ROWS[:8]), multi_label="on")
    ann.run(project, label=list(LABELS), meaning=["", ""], multi_label="on")
    walk = Walk(chromium, served, language="fr")
    tab = walk.sign_in()
    tab.goto(f"{served.url}{project}/results#go")
    tab.wait_for_selector("#row[data-number='1']")
    tab.focus("#rows a")
    for key in ("2", "1"):  # the row has label 1
        tab.keyboard.press(key)
    tab.wait_for_selector("#rows tr[data-row='1'] .chip:has-text('facturation'):not(:has-text('livraison'))")
    assert tab.get_attribute("#row", "data-number") == "1"
    tab.keyboard.press("2")  # a row has at least one label
    tab.wait_for_selector("#row[data-number='1'] #refused")
    assert tab.is_checked("#row [value=facturation]")
    walk.complaints.clear()  # the browser logs the refusal
    tab.keyboard.press("a")
    tab.wait_for_selector("#row[data-number='2']")
    walk.look("several")
    walk.end()


def test_a_server_that_does_not_answer_is_said(chromium: Chromium, tmp_path: Path) -> None:
    slow = LLM(transport=FakeTransport({"label": "livraison"}, latency=30), cache=False)
    with Page(tmp_path, llm=slow) as served:
        walk = Walk(chromium, served, language="fr")
        tab = walk.sign_in()
        ann = served.browser()
        project = ann.described(french_csv(ROWS))
        ann.send(f"{project}/task", see=f"{project}/task", do="run", label=list(LABELS), meaning=["", ""])
        tab.goto(f"{served.url}{project}/run")
        tab.route("**/progress", lambda route: route.abort())
        tab.wait_for_selector("#away")
        walk.look("away")
        tab.unroute("**/progress")
        tab.wait_for_selector("#away", state="detached")
        ann.send(f"{project}/run", see=f"{project}/run", do="cancel")
        walk.complaints.clear()  # the browser logs the requests that failed
        walk.end()


@pytest.fixture(scope="module")
def careful_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("queue"), tasks={"tri": careful()}) as page:
        yield page


@pytest.mark.parametrize("width", [1440, 360])
def test_a_queue_is_worked_through_by_keyboard(chromium: Chromium, careful_page: Page, width: int) -> None:
    """`a` accepts the best guess and goes to the next row or page; a number chooses another label; `u` undoes."""
    _, project = asked(careful_page, 300)
    walk = Walk(chromium, careful_page, language="fr", width=width)
    tab = walk.sign_in()
    tab.goto(f"{careful_page.url}{project}/results?f=abstained#go")
    waiting = tab.eval_on_selector_all("#rows tr", "rows => rows.map(row => row.dataset.row)")
    assert len(waiting) == 50
    walk.look("queue")
    tab.keyboard.press("a")
    tab.wait_for_selector(f"#rows tr[data-row='{waiting[0]}'] .i-edit")
    tab.wait_for_selector(f"#row[data-number='{waiting[1]}'] [name=accept]", state="attached")
    tab.keyboard.press("2")
    tab.wait_for_selector(f"#rows tr[data-row='{waiting[1]}'] .chip:not(.guess):has-text('livraison')")
    tab.wait_for_selector(f"#row[data-number='{waiting[2]}']", state="attached")
    tab.keyboard.press("u")
    tab.wait_for_selector(f"#rows tr[data-row='{waiting[1]}'] .guess")
    tab.wait_for_selector(f"#row[data-number='{waiting[1]}'] [name=accept]", state="attached")
    for key in ("j", "j", "2", "a", "k"):  # faster than rows are opened: none is lost
        tab.keyboard.press(key)
    tab.wait_for_selector(f"#row[data-number='{waiting[4]}'] [name=undo]", state="attached")
    tab.wait_for_selector(f"#rows tr[data-row='{waiting[3]}'] .chip:not(.guess):has-text('livraison')")
    tab.keyboard.press("?")
    walk.look("help")
    tab.keyboard.press("?")
    tab.click("#rows tr:last-child a")
    tab.wait_for_selector(f"#row[data-number='{waiting[-1]}']")
    tab.focus("#row")
    tab.keyboard.press("a")
    tab.wait_for_url("**after=*")
    assert tab.get_attribute("#rows tr", "data-row") not in waiting
    tab.wait_for_selector(".drawer:target" if width < 1400 else "#rows tr:first-child a:focus")
    walk.look("next-page")
    tab.keyboard.press("k")
    tab.wait_for_url("**open=last*")
    current = tab.get_attribute("#rows tr[aria-current]", "data-row")
    assert current is not None
    assert current in waiting
    walk.look("back")
    tab.goto(f"{careful_page.url}{project}/results?f=next#go")
    walk.look("label-next")
    walk.end()


@pytest.mark.parametrize(("width", "height"), [(1024, 700), (1400, 900), (1920, 1080)])
def test_a_list_without_rows_fits_the_window(chromium: Chromium, served: Page, width: int, height: int) -> None:
    ann = served.browser()
    project = ann.described(french_csv(ROWS[:4]))
    ann.run(project)
    walk = Walk(chromium, served, language="fr", width=width, height=height)
    tab = walk.sign_in()
    tab.goto(f"{served.url}{project}/results?q=zzzz")
    assert tab.locator(".empty").count() == 1
    assert tab.evaluate("document.scrollingElement.scrollHeight - innerHeight") == 0
    foot = tab.locator(".foot").bounding_box()
    assert foot is not None
    for part in (".list", ".drawer") if width >= 1400 else (".list",):
        box = tab.locator(part).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] == pytest.approx(foot["y"], abs=1), part  # its border goes all the way
    walk.look("nothing")
    walk.end()


def test_the_page_works_without_scripts(chromium: Chromium, served: Page, tmp_path: Path) -> None:
    context = chromium.new_context(locale="fr-FR", java_script_enabled=False)
    tab = context.new_page()
    tab.set_default_timeout(15_000)
    tab.goto(served.url + "/")
    tab.fill("#key", KEYS["ann"])
    tab.click(".main-act")
    file = tmp_path / "messages.csv"
    file.write_bytes(french_csv(ROWS[:4]))
    tab.set_input_files("#file", file)
    tab.click(".main-act")
    tab.click(".main-act")
    tab.fill("[name=label] >> nth=0", "livraison")
    tab.click("button[value=add_label]")
    tab.fill("[name=label] >> nth=1", "facturation")
    tab.click("button[value=run]")
    for _ in range(100):
        if tab.locator("a.main-act").count():
            break
        tab.reload()
    tab.click("a.main-act")
    tab.click("#rows tr:nth-child(4) a")
    tab.check("#row [value=livraison]")
    tab.click("#correct noscript button, #correct button:has-text('Corriger')")
    assert tab.locator("#row [name=undo]").count() == 1
    context.close()
