"""Single operators in the simulator beside LiteRT's reference kernels."""

import traceback
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from msgspec import Struct

from mlia.backends.simulator.session import Session
from mlia.backends.vela.process import compile_model
from mlia.errors import BackendError, SimulatorError
from mlia.graph.tflite import read_tflite
from mlia.rules.verification import known_of
from mlia.simulator.differences import is_explained
from mlia.targets.profiles import load_target
from tests.simulator.single_operators import KINDS, Case, draw

TARGETS = (
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512",
    "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048",
)  # fmt: skip
EXACT, DOCUMENTED, FAILED = "exact", "documented", "failed"
_EDGES = ("", "lowest", "highest", "")


class Job(Struct, frozen=True):
    """One model on one target."""

    kind: str
    dtype: str
    seed: int
    target: str

    @property
    def family(self) -> str:
        return self.target.rpartition("-")[0]


class Outcome(Struct, frozen=True):
    """How a job went: "exact", "documented" or "failed", and how far it is from the reference or why it failed.

    `different` is how many of all `elements` differ, over all inputs, by up to `codes`.
    """

    job: Job
    verdict: str
    codes: int = 0
    why: str = ""
    different: int = 0
    elements: int = 0


def jobs(seeds: range, targets: tuple[str, ...] = TARGETS, kinds: tuple[str, ...] = tuple(KINDS)) -> list[Job]:
    """All kinds on all targets that take them, seed by seed."""
    return [
        job
        for seed in seeds
        for target in targets
        for kind in kinds
        for dtype in KINDS[kind].dtypes
        if KINDS[kind].runs_on((job := Job(kind, dtype, seed, target)).family, dtype)
    ]


def compiled(case: Case, target: str) -> bytes:
    """The model compiled; all of it must run on the NPU."""
    model = compile_model(case.content, load_target(target), 120).model
    left = [each.kind for each in read_tflite(model).main.operators if each.custom_code != "ethos-u"]
    if left:
        raise BackendError(f"{', '.join(left)} not on the NPU")
    return model


def run(job: Job) -> Outcome:
    """Compile, simulate and compare, for two random and two extreme inputs."""
    case = draw(job.kind, job.dtype, job.seed)
    codes, where, different, elements = 0, "", 0, 0
    try:
        model = compiled(case, job.target)
        random = np.random.default_rng(job.seed)
        for edge in _EDGES:
            sample = case.inputs(random, edge)
            # From fresh state each time: what is kept of a run would add up known differences.
            for theirs, ours in zip(Reference(case).run(sample), Session(model).run(sample), strict=True):
                apart = np.abs(theirs.astype(np.int64) - ours.astype(np.int64))
                different, elements = different + int((apart > 0).sum()), elements + apart.size
                if apart.max(initial=0) > codes:
                    codes = int(apart.max())
                    where = f"{int((apart > 0).sum())} of {apart.size}, {edge or 'random'} input"
    except (BackendError, SimulatorError) as error:
        return Outcome(job, FAILED, why=f"{type(error).__name__}: {error}")
    except Exception as error:  # a defect of the simulator is a finding of the fuzz
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(job, FAILED, why=f"{error!r:.120} in {Path(last.filename).name}:{last.lineno}")
    if not codes:
        return Outcome(job, EXACT, elements=elements)
    known = [known_of(case.graph, operator, job.family) for operator in case.graph.main.operators]
    explained = any(is_explained(each, codes, different, elements) for each in known)
    why = f"up to {codes} in {where}, {different} of {elements} in all"
    return Outcome(job, DOCUMENTED if explained else FAILED, codes, why, different, elements)


class Reference:
    """LiteRT's reference kernels, except for SUM, which they leave unscaled: then its other kernels."""

    def __init__(self, case: Case) -> None:
        sums = any(operator.kind == "SUM" for operator in case.graph.main.operators)
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if sums else OpResolverType.BUILTIN_REF
        self._interpreter = Interpreter(
            model_content=case.content, num_threads=1, experimental_op_resolver_type=kernels
        )
        self._interpreter.allocate_tensors()

    def run(self, sample: tuple[Any, ...]) -> list[Any]:
        for detail, values in zip(self._interpreter.get_input_details(), sample, strict=True):
            self._interpreter.set_tensor(detail["index"], values)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._interpreter.get_output_details()]
