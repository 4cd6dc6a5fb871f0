"""The page in a real browser: Debian's Chromium, without a screen. Skipped where it is not installed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SAMPLE
from msgspec.structs import replace

import mlia
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Clustering
from mlia.render.html import render_html
from mlia.report import TargetReport
from mlia.testing import IntegerSketch

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed")
# It must not look for updates or hosts; as root it cannot have a sandbox.
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    net = IntegerSketch("long")
    x = net.image("in", (1, 16, 16, 16))
    for number in range(500):
        x = net.filter("CONV_2D", x, filters=16, name=f"stage{number // 50}/conv{number}")
    (folder / "long.tflite").write_bytes(write_tflite(net.graph([x])))
    wide = IntegerSketch("wide")
    x = wide.image("in", (1, 16, 16, 16))
    ends = [wide.filter("CONV_2D", x, filters=16, name=f"branch{number}") for number in range(20)]
    (folder / "wide.tflite").write_bytes(write_tflite(wide.graph(ends)))
    reports: dict[str, Any] = {
        "wide": mlia.check(folder / "wide.tflite", "ethos-u55-128", try_remedies=False),
        "sample": mlia.check(SAMPLE, "ethos-u55-256"),
        "split": mlia.check(ROOT / "examples/off_the_npu.tflite", ["ethos-u55-128", "ethos-u85-256", "cortex-m7"]),
        "long": mlia.check(folder / "long.tflite", "ethos-u55-128", try_remedies=False),
    }
    options = {"try_remedies": False}
    before, after = mlia.check(SAMPLE, "ethos-u55-256", **options), reports["split"]  # type: ignore[arg-type]
    reports["difference"] = mlia.compare(before, replace(after, targets=(renamed(after.targets[0]),)))
    reports["optimization"] = mlia.optimize(SAMPLE, "ethos-u55-256", mlia.Recipe(clustering=Clustering(16))).report
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(render_html(report))
    return {name: folder / f"{name}.html" for name in reports}


def renamed(entry: TargetReport) -> TargetReport:
    """The same as if it were of the other's target: for a picture it does not matter."""
    return replace(entry, target=replace(entry.target, name="ethos-u55-256"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["difference", "optimization"])
def test_other_pages_open_without_complaint(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    opened(browser, pages[name], width)
    assert browser.get_log("browser") == []
    assert script(browser, "document.querySelectorAll('.figures tr').length") > 5
    assert script(browser, "document.documentElement.scrollWidth") <= width
    before = script(browser, "getComputedStyle(document.body).backgroundColor")
    browser.find_element("id", "theme").click()
    assert script(browser, "getComputedStyle(document.body).backgroundColor") != before


def opened(browser: Any, page: Path, width: int = 1280) -> None:
    settings = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", settings)
    browser.get(page.as_uri())


def script(browser: Any, text: str) -> Any:
    return browser.execute_script(f"return {text}")


@pytest.mark.parametrize("width", [1280, 1000, 390])
@pytest.mark.parametrize("name", ["sample", "split", "long", "wide"])
def test_a_page_opens_without_complaint(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    opened(browser, pages[name], width)
    assert browser.get_log("browser") == []
    assert script(browser, "document.querySelectorAll('.target:not([hidden]) figure svg').length") >= 1
    assert script(browser, "document.querySelectorAll('.target:not([hidden]) .point').length") >= 1
    assert script(browser, "document.documentElement.scrollWidth") <= width  # nothing sticks out at the side
    assert script(browser, "document.querySelector('main').clientWidth") > 0.5 * width


def test_nothing_is_fetched(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["split"])
    assert script(browser, "performance.getEntriesByType('resource').length") == 0


def test_the_slowest_operator_is_found_by_clicking(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["sample"])
    browser.find_element("css selector", "[data-sort]").click()
    first = browser.find_element("css selector", ".bars li")
    assert "conv_1" in first.text
    first.click()
    details = browser.find_element("css selector", ".details").text
    assert "conv_1" in details
    assert "MAC utilization" in details
    assert script(browser, "document.querySelector('.node.chosen').dataset.op") == "0.0"
    assert script(browser, "document.querySelectorAll('.point.chosen').length") == 1


def test_a_box_of_the_graph_chooses_its_bar(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["split"])
    browser.find_element("css selector", '.node[data-op="0.3"]').click()
    chosen = browser.find_element("css selector", '.target:not([hidden]) .bars li[aria-selected="true"]')
    assert "TRANSPOSE_CONV" in chosen.text
    assert "why not on the NPU" in browser.find_element("css selector", ".target:not([hidden]) .details").text


def test_the_keyboard_is_enough(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(browser, pages["split"])
    bars = browser.find_element("css selector", ".target:not([hidden]) .bars")
    bars.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert script(browser, "document.querySelector('.bars li[aria-selected=true]').dataset.op") == "0.2"
    bars.send_keys(Keys.END)
    assert script(browser, "document.querySelector('.bars li[aria-selected=true]').dataset.op") == "0.5"
    active = script(browser, "document.querySelector('.bars').getAttribute('aria-activedescendant')")
    assert script(browser, f"document.getElementById({json.dumps(active)}).dataset.op") == "0.5"
    tab = browser.find_element("css selector", "[role=tab][aria-selected=true]")
    tab.send_keys(Keys.ARROW_RIGHT)
    assert script(browser, "document.activeElement.textContent") == "ethos-u85-256"
    assert script(browser, "document.querySelector('.target:not([hidden]) .name').textContent") == "ethos-u85-256"


def test_light_and_dark(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["sample"])
    before = script(browser, "getComputedStyle(document.body).backgroundColor")
    browser.find_element("id", "theme").click()
    assert script(browser, "getComputedStyle(document.body).backgroundColor") != before


def test_in_print_every_target_is_there(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["split"])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = script(browser, "[...document.querySelectorAll('.target')].filter(t => t.offsetHeight > 0).length")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == 3
