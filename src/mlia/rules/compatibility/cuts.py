"""The rule about what all operators on the CPU cost together, where they cut the NPU's part into pieces."""

from collections.abc import Iterator

from mlia.advice import Severity
from mlia.cpu_results import SystemTime
from mlia.results import OperatorId, Performance, Unit
from mlia.rules.phrases import counted, named
from mlia.rules.rule import Case, Finding, NpuRule, Rule


class Cuts(NpuRule):
    """Operators on the CPU cut the NPU's part of the model into pieces.

    ## Why it matters
    Between the pieces the CPU waits, computes and starts the NPU again; the compiler cannot plan memory across the cut.

    ## How it is found
    There are operators on the CPU between segments of the NPU, and three segments or more, or the hand-over takes more
    than 5 % of the time.

    ## What to do
    Begin with the operator that costs most: the advice about it says what to do. Of operators at the two ends of the
    model none cuts it.

    ## Limits
    What is told here are costs of the cuts together. Each one's cause has advice of its own.

    ## Source
    Vela 5.2's placement of operators, and the time of hand-over and host that `mlia check` estimates.
    """

    code = "CMP050"
    name = "cut-into-pieces"
    severity = Severity.NOTE
    reads = Performance

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        cuts = _cuts(case)
        system = case.performance.system
        handover = system.handover.latency_ms if isinstance(system, SystemTime) else 0.0
        whole = case.performance.latency_ms or 0.0
        segments = case.compatibility.npu_segments
        if not cuts or (segments < 3 and not (whole and handover > 0.05 * whole)):
            return
        operators = tuple(operator for cut in cuts for operator in cut)
        dearest = max(operators, key=lambda each: case.milliseconds([each]) or 0.0)
        cost, spent = case.milliseconds([dearest]), case.milliseconds(operators)
        evidence = f"{counted(len(operators), 'operator')} on the CPU cut the NPU's part into {segments} segments"
        if spent is not None and whole:
            evidence += f"; they take {spent:.2f} ms and hand-over {handover:.2f} of {whole:.2f} ms"
        takes = f", which takes {cost:.2f} ms" if cost is not None else ""
        advice = f"Begin with {named([case.placements[dearest].name])}{takes}: bring it onto the NPU, or to an end."
        reason = "each operator has advice of its own"
        yield Finding(operators, evidence, advice, why_not_tried=reason, at_stake_ms=(spent or 0.0) + handover or None)


def _cuts(case: Case) -> list[list[OperatorId]]:
    """Runs of operators on the CPU with one segment of the NPU in front and another behind.

    The compiler orders operators anew: in the file, others may stand between the operators of one segment.
    """
    runs: list[list[OperatorId]] = []
    run: list[OperatorId] = []
    segment: int | None = None
    for placement in case.compatibility.operators:
        if placement.subgraph != case.graph.main.index or placement.processor == Unit.REMOVED:
            continue
        if placement.processor == Unit.CPU:
            run = [*run, OperatorId(placement.subgraph, placement.index)] if segment is not None else []
        elif placement.segment is not None:
            runs = [*runs, run] if run and placement.segment != segment else runs
            run, segment = [], placement.segment
    return runs


RULES: tuple[type[Rule], ...] = (Cuts,)
