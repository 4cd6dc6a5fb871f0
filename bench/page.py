"""How long the HTML report takes to be made and to open, and how large it is: `python bench/page.py`.

Needs Chromium and its driver. The goals are 2 MB and 1 s, for some 70 operators and for 500.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

import mlia
from mlia.graph.tflite_writer import write_tflite
from mlia.render.html import render_html
from mlia.testing import IntegerSketch

ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
ROUNDS = 7
MOST_BYTES, MOST_SECONDS = 2 << 20, 1.0


def chain(length: int, folder: Path) -> Path:
    net = IntegerSketch("chain")
    x = net.image("in", (1, 32, 32, 16))
    for number in range(length):
        x = net.filter("CONV_2D", x, filters=16, name=f"stage{number // 50}/conv{number}")
    path = folder / f"chain_{length}.tflite"
    path.write_bytes(write_tflite(net.graph([x])))
    return path


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for argument in ARGUMENTS:
        options.add_argument(argument)
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        for length in (70, 500):
            report = mlia.check(chain(length, Path(folder)), "ethos-u55-256", try_remedies=False)
            begun = time.perf_counter()
            page = render_html(report)
            made = time.perf_counter() - begun
            path = Path(folder) / "page.html"
            path.write_text(page)
            times = []
            for _ in range(ROUNDS):
                browser.get(path.as_uri())
                times.append(
                    browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
                )
            opens, size = statistics.median(times), len(page.encode())
            missed |= size > MOST_BYTES or opens > MOST_SECONDS
            print(
                f"{length} operators: {size:,} bytes (of {MOST_BYTES:,}), made in {made:.2f} s, opens in {opens:.2f} s"
            )
        browser.quit()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
