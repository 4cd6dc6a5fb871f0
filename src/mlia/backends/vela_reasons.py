"""What Vela prints about operators that it leaves to the CPU -> constraints of the user's operators.

Each refusal is one paragraph of its log: the operator by kind and first output, the reason with the
offending value, and below it the published rule, if the reason does not say it all.
"""

import re
from collections import defaultdict

from msgspec import Struct

from mlia.graph.graph import Operator, Subgraph
from mlia.results import Constraint, Finding, OperatorId, Placement

_REFUSAL = re.compile(r"^Warning \([\w ]+\) operator: (?P<kind>.*), ofm: '(?P<output>.*)'$")
_PLACEHOLDER = re.compile(r"placeholder-for-(\d+)-OFM")  # Vela's name for an operator without outputs
_DATA_TYPE = re.compile(r"unsupported DataType (\w+)", re.IGNORECASE)
_NO_OPERATOR = "Unsupported opType"


class Refusal(Struct, frozen=True):
    """One paragraph: which operator, by kind and name of its first output, and why."""

    kind: str
    output: str
    constraint: Constraint


def read_refusals(log: str) -> list[Refusal]:
    """All refusals of a log, each once, in the order of the log."""
    refusals: dict[Refusal, None] = {}
    lines = iter(log.splitlines())
    for line in lines:
        heading = _REFUSAL.match(line)
        if not heading:
            continue
        body: list[str] = []
        for text in lines:
            if not text.strip():
                break
            body.append(text.strip())
        violation = body[0].removeprefix("Reason:").strip() if body else "no reason given"
        refusals[Refusal(heading["kind"], heading["output"], Constraint(violation, "; ".join(body[1:])))] = None
    return list(refusals)


def constraints_of(operator: Operator, subgraph: Subgraph, refusals: list[Refusal]) -> tuple[Constraint, ...]:
    """The constraints one operator breaks.

    A fused activation is an operator of its own to Vela, so the output's name decides, and the kind only
    between operators whose outputs share a name.
    """
    name = subgraph.tensors[operator.outputs[0]].name if operator.outputs else None
    named = [refusal for refusal in refusals if _names(refusal, operator, name)]
    same_kind = [refusal for refusal in named if refusal.kind == operator.kind]
    chosen = same_kind or named
    tensors = (subgraph.tensor(index) for index in (*operator.inputs, *operator.outputs))
    names = {tensor.name for tensor in tensors if tensor is not None and tensor.name}
    return tuple(dict.fromkeys(_without_tensors(refusal.constraint, names) for refusal in chosen))


def _names(refusal: Refusal, operator: Operator, name: str | None) -> bool:
    placeholder = _PLACEHOLDER.fullmatch(refusal.output)
    if placeholder:
        return not operator.outputs and int(placeholder[1]) == operator.index
    return name is not None and refusal.output == name


def _without_tensors(constraint: Constraint, names: set[str]) -> Constraint:
    """The violation without the names of tensors in it, so that like causes read alike."""
    violation = constraint.violation
    for name in names:
        for own in (name, f"{name}_act"):  # Vela's name for what goes into a fused activation
            violation = violation.removesuffix(f" ({own})").replace(f" tensor {own} ", " a tensor ")
    return Constraint(violation, constraint.rule)


def find_causes(operators: tuple[Placement, ...], npu: str) -> tuple[Finding, ...]:
    """Each cause once, with all operators it keeps off the NPU, the most frequent first."""
    concerned: dict[tuple[str, str], list[OperatorId]] = defaultdict(list)
    nothing_runs = all(not placement.on_npu for placement in operators)
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for placement in operators:
        if placement.on_npu:
            continue
        for constraint in placement.constraints:
            key = _cause(constraint, npu, nothing_runs)
            concerned[key].append(OperatorId(placement.subgraph, placement.index))
            kinds[key].add(placement.kind)
    findings = []
    for (cause, remedy), indexes in sorted(concerned.items(), key=lambda item: -len(item[1])):
        named = f"{cause}: {', '.join(sorted(kinds[cause, remedy]))}" if cause.endswith("such operator") else cause
        findings.append(Finding(named, remedy, tuple(indexes)))
    return tuple(findings)


def _cause(constraint: Constraint, npu: str, nothing_runs: bool) -> tuple[str, str]:
    """The cause in the user's words, and what to do about it."""
    data_type = _DATA_TYPE.search(constraint.violation)
    if data_type and "float" in data_type[1].lower():
        what = "nothing can run on the NPU" if nothing_runs else "these operators cannot run on the NPU"
        return f"{data_type[1].lower()}: {what}", "quantize the model to int8"
    if data_type:
        return f"{data_type[1].lower()} tensors cannot be used on the NPU here", constraint.rule or "use int8 or int16"
    if constraint.violation == _NO_OPERATOR:
        return f"{npu} has no such operator", "replace it by operators the NPU has, or leave it to the CPU"
    return constraint.violation, constraint.rule
