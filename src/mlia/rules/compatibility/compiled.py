"""Models that are what the compiler makes, rather than what it takes."""

from collections.abc import Iterator, Sequence

from mlia.advice import Severity
from mlia.results import Compiled
from mlia.rules.rule import CompiledRule, Finding, Rule
from mlia.targets.target import AnyTarget, CpuTarget


class AlreadyCompiled(CompiledRule):
    """The model is already compiled by Vela, so that nothing can be said about its operators.

    ## Why it matters
    In a compiled model the NPU's operators are one command stream, made for one number of MACs and one family. An NPU
    that is built otherwise refuses it when the program runs.

    ## How it is found
    By the operator `ethos-u`, and by the header of its command stream, which says what it was compiled for.

    ## What to do
    Give the model that it was compiled from. If only the compiled one is there, compare what it was compiled for with
    your hardware.

    ## Limits
    The estimate of the time and the placement of operators cannot be had from the compiled file.

    ## Source
    The header of the command stream as Arm's driver (ethos-u-core-driver) checks it.
    """

    code = "CMP060"
    name = "already-compiled"
    severity = Severity.WARNING

    def check(self, compiled: Sequence[Compiled], target: AnyTarget) -> Iterator[Finding]:
        made = sorted({f"{each.npu}-{each.macs_per_cycle}" for each in compiled})
        evidence = f"it is compiled for {', '.join(made) or 'an NPU that its header does not name'}"
        if isinstance(target, CpuTarget):
            evidence += ", and the target has no NPU"
        elif made != [ours := f"{target.npu.family}-{target.npu.macs_per_cycle}"]:
            evidence += f", and the target is an {ours}: its driver refuses the command stream"
        yield Finding((), evidence, "Give the model it was compiled from.", why_not_tried="that model is not here")


RULES: tuple[type[Rule], ...] = (AlreadyCompiled,)
