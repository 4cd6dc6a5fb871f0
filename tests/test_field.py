"""docs/field.md: its summary says what its table says."""

import re
from collections import Counter
from pathlib import Path

DOC = Path(__file__).parent.parent / "docs" / "field.md"
MOST_OF_A_SOURCE = 4


def rows() -> list[list[str]]:
    """The cells of the table of files, a list for each file."""
    lines = DOC.read_text(encoding="utf-8").split("## The files")[1].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return table[2:]


def test_the_summary_is_the_sum_of_the_table() -> None:
    text = " ".join(DOC.read_text(encoding="utf-8").split())
    told = re.search(
        r"(\d+) files of (\d+) public GitHub repositories \((\d+) TFLite, (\d+) Keras, (\d+) ONNX\)"
        r".*?: (\d+) are right \(([\d.]+) %\), (\d+) are refused on ethos-u55-256, 0 tracebacks, (\d+) unexplained",
        text,
    )
    assert told
    files = rows()
    formats = Counter(re.split(r"[ ,]", row[2])[0] for row in files)
    right, refused = (sum(row[place] == what for row in files) for place, what in ((8, "yes"), (3, "refused")))
    alarms = sum("alarm" in row[6:8] for row in files)
    sums = [len(files), len({row[0] for row in files}), formats["TFLite"], formats["Keras"], formats["ONNX"], right]
    assert [*map(int, told.groups()[:6])] == sums
    assert told[7] == f"{100 * right / len(files):.1f}"
    assert [int(told[8]), int(told[9])] == [refused, alarms]


def test_no_file_is_told_twice_and_no_source_weighs_too_much() -> None:
    files = rows()
    assert {len(row) for row in files} == {9}
    assert len({(row[0], row[1]) for row in files}) == len(files)
    assert max(Counter(row[0] for row in files).values()) <= MOST_OF_A_SOURCE
    assert {row[8] for row in files} <= {"yes", "no"}


def test_what_is_not_right_is_explained() -> None:
    told = DOC.read_text(encoding="utf-8").split("## What is not right")[1].split("\n## ")[0]
    for row in rows():
        if row[8] == "no":
            assert row[0].split("]")[0].strip("[") in told
