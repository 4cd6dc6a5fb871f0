"""Damaged models, a thousand and more: each ends in a report or in one clear line, never otherwise."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE, wake_words

import mlia
from mlia.recipe import Channels, Clustering, Pruning, Recipe, Rewrite
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.json import render_json
from mlia.render.optimize import render_optimization
from tests.damage import raw

TIMEOUT_S = 20.0  # of a check, whose outcome may be that it took too long
LONG_TIMEOUT_S = 300.0
MOST_CASES = 180  # of each kind of damage; a truncated file is cut at every 64th byte
TRIED = 5  # of how many models one has its remedies tried: that takes as long as ten checks


def truncated(content: bytes, source: random.Random, cases: int) -> Iterator[bytes]:
    sizes = range(0, len(content), 64)
    for size in sorted(source.sample(sizes, len(sizes) * cases // MOST_CASES)):
        yield content[:size]


def with_flipped_bits(content: bytes, source: random.Random, cases: int) -> Iterator[bytes]:
    for _ in range(cases):
        yield raw.flipped(content, source)


def with_wild_words(content: bytes, source: random.Random, cases: int) -> Iterator[bytes]:
    for _ in range(cases):
        yield raw.with_wild_words(content, source)


def with_pieces_moved(content: bytes, source: random.Random, cases: int) -> Iterator[bytes]:
    for _ in range(cases):
        yield raw.with_pieces_moved(content, source)


def outcome(path: Path, target: str) -> str:
    """ "report", or the error's type; raises what no user should ever see."""
    try:
        report = mlia.check(
            path, target, try_remedies=int(path.stem) % TRIED == 0, options=mlia.Options(timeout_s=TIMEOUT_S)
        )
    except mlia.MliaError as error:
        return type(error).__name__
    render_json(report)
    render_terminal(report, TerminalStyle(80))
    return "report"


@pytest.mark.parametrize("model", [SAMPLE, wake_words()[0]], ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (truncated, "ethos-u55-256"),
        (with_flipped_bits, "ethos-u55-256"),
        (with_wild_words, "ethos-u85-256"),
        (with_pieces_moved, "ethos-u65-512"),
    ],
)
@pytest.mark.parametrize("cases", [20, pytest.param(MOST_CASES, marks=pytest.mark.long)])
def test_every_damaged_model_ends_well(cases: int, kind: object, target: str, model: Path, tmp_path: Path) -> None:
    assert callable(kind)
    content = model.read_bytes()
    paths = []
    for number, damaged in enumerate(kind(content, random.Random(f"{kind.__name__} {model.stem}"), cases)):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(damaged)
        paths.append(path)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda path: outcome(path, target), paths))
    assert len(outcomes) >= cases
    assert "ModelError" in outcomes  # some are damaged beyond reading; which ones is not the point


RECIPE = Recipe(rewrite=Rewrite(), channels=Channels(0.75), pruning=Pruning(0.5), clustering=Clustering(16))


@pytest.mark.parametrize("model", [SAMPLE, ROOT / "examples/ds_cnn_small_float.tflite"], ids=lambda path: path.stem)
@pytest.mark.parametrize("cases", [3, pytest.param(10, marks=pytest.mark.long)])
def test_every_damaged_model_is_optimized_or_refused(cases: int, model: Path, tmp_path: Path) -> None:
    source = random.Random(11)
    content = model.read_bytes()
    damaged: list[bytes] = []
    for kind in (with_flipped_bits, with_wild_words, with_pieces_moved):
        damaged += kind(content, source, cases)

    def optimized(numbered: tuple[int, bytes]) -> str:
        path = tmp_path / f"{numbered[0]}.tflite"
        path.write_bytes(numbered[1])
        try:
            report = mlia.optimize(path, "ethos-u55-256", RECIPE, options=mlia.Options(timeout_s=LONG_TIMEOUT_S)).report
        except mlia.MliaError as error:
            return type(error).__name__
        render_json(report)
        render_optimization(report, "out.tflite", "out.recipe.toml", 80, True)
        return "report"

    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(optimized, enumerate(damaged)))
    assert found <= {"report", "ModelError", "TransformError", "NotQuantizedError", "BackendError"}
    assert "report" in found
    assert len(found) > 1
