"""A sample of the fuzz of single operators: every kind once, on targets that change from kind to kind.

`make fuzz` (tools/fuzz_simulator.py) runs all kinds on all targets.
"""

import multiprocessing

import pytest

import mlia
from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.simulator.differences import FAMILIES, KNOWN, Trait, is_explained, known_difference
from mlia.verification import Outcome
from tests.simulator.fuzzing import FAILED, TARGETS, Job, run
from tests.simulator.single_operators import BOTH, KINDS, draw

SEED = 1000  # not one of those that `make fuzz` begins with


def sampled() -> list[Job]:
    """Each kind and type on one target per family, another from kind to kind."""
    found = []
    for number, (kind, dtype) in enumerate((kind, dtype) for kind, each in KINDS.items() for dtype in each.dtypes):
        for family in ("ethos-u55", "ethos-u65", "ethos-u85"):
            targets = [target for target in TARGETS if target.startswith(family)]
            if KINDS[kind].runs_on(family, dtype):
                found.append(Job(kind, dtype, SEED + number, targets[number % len(targets)]))
    return found


# One of how many jobs is done; the short form still meets each family and every target.
SHARES = [25, pytest.param(1, marks=pytest.mark.long)]


@pytest.mark.parametrize("one_of", SHARES)
def test_every_kind_is_exact_or_documented(one_of: int) -> None:
    chosen = sampled()[::one_of]
    assert len(KINDS) >= 50
    assert {job.kind for job in sampled()} == {*KINDS}
    assert {job.target for job in chosen} == set(TARGETS)
    # LiteRT ends a process that gives it what it does not expect.
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        outcomes = pool.map(run, chosen, chunksize=8)
    failed = [f"{outcome.job}: {outcome.why}" for outcome in outcomes if outcome.verdict == FAILED]
    assert not failed, "\n".join(failed)


def false_alarm(job: Job) -> str:
    """What `mlia verify` says of a model whose outputs are all exact, if it finds an operator different."""
    case = draw(job.kind, job.dtype, job.seed)
    try:
        found = mlia.verify(read_tflite(case.content), job.target, samples=1)
    except TransformError:  # LiteRT does not take the edges of the input's type
        return ""
    if any(check.outcome != Outcome.EXACT for check in found.outputs):
        return ""
    wrong = [check.kind for check in found.operators if check.outcome == Outcome.DIFFERENT]
    return f"{job}: {', '.join(wrong)}" if wrong else ""


@pytest.mark.parametrize("one_of", SHARES)
def test_no_operator_is_different_where_the_outputs_are_exact(one_of: int) -> None:
    chosen = sampled()[:: 2 * one_of]
    assert {job.family for job in chosen} == set(FAMILIES)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        alarms = [alarm for alarm in pool.map(false_alarm, chosen, chunksize=8) if alarm]
    assert not alarms, "\n".join(alarms)


@pytest.mark.parametrize("kind", ["convolution", "softmax", "split"])
def test_the_same_seed_draws_the_same_model(kind: str) -> None:
    assert draw(kind, "int8", 7).content == draw(kind, "int8", 7).content
    assert draw(kind, "int8", 7).content != draw(kind, "int8", 8).content


def test_what_differs_is_explained_only_as_it_is_known() -> None:
    known = known_difference("FULLY_CONNECTED", "int8", "ethos-u55")
    assert is_explained(known, 2, 50, 1000)
    assert not is_explained(known, 3, 50, 1000)
    assert not is_explained(known, 2, 51, 1000)
    assert is_explained(known, 1, 2, 10)  # too few to tell
    assert known_difference("CONV_2D", "int8", "ethos-u55") is None
    assert known_difference("REDUCE_MAX", "int8", "ethos-u85") is None
    assert is_explained(None, 0, 0, 10)
    assert not is_explained(None, 1, 1, 10)
    defect = known_difference("REDUCE_MAX", "int8", "ethos-u85", {Trait.DROPS_AXIS})
    assert defect is not None
    assert defect.is_defect
    assert not is_explained(defect, 1, 1, 10)
    without_bound = (Trait.TINY_SCALE, Trait.WIDE_CELL)  # one of the two sides does not compute the operator
    bounded = [each for each in KNOWN if not each.is_defect and each.trait not in without_bound]
    assert all(each.codes is not None and each.share < 1 for each in bounded)
    assert all(set(each.dtypes) <= {"uint8", *BOTH} and each.reason for each in KNOWN)
