"""What a rule is, what it looks at, what it finds, and what can be tried about that.

A rule is a class. Its name states the offence, and its docstring is the page that `mlia explain CODE` prints.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from importlib import import_module
from typing import ClassVar

from msgspec import Struct

from mlia.advice import Safety, Severity
from mlia.cpu_results import CpuCompatibility, CpuCost, CpuPerformance
from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.results import (
    Compatibility,
    Compiled,
    Constraint,
    OperatorCost,
    OperatorId,
    Performance,
    Placement,
    Unit,
)
from mlia.targets.target import AnyTarget, CpuTarget, Target


class Aim(StrEnum):
    """What the best of several remedies is the best in: operators on the NPU, time, SRAM, a smaller NPU, SRAM within
    the limit that the target sets, or outputs that the compiled model writes.
    """

    PLACEMENT = "placement"
    TIME = "time"
    MEMORY = "memory"
    HARDWARE = "hardware"
    FIT = "fit"
    OUTPUTS = "outputs"


class Fix(Struct, frozen=True):
    """A remedy that can be tried: `change` makes another model, or `retarget` another target.

    Both are functions without side effects. `change` raises TransformError where it cannot be done, and finds what
    it changes in the graph that it is given. It returns a graph whose `content` need not match.
    """

    what: str
    safety: Safety
    change: Callable[[Graph], Graph] | None = None
    retarget: Callable[[Target], Target] | None = None


def later(function: str, *arguments: object) -> Callable[[Graph], Graph]:
    """A function of `mlia.transforms.remedies` by module and name, "kernels.plain_convolutions", for Fix.change.

    It is imported when it is first tried, because it needs numpy, and gets the graph and then these arguments.
    """

    def change(graph: Graph) -> Graph:
        module, _, name = function.partition(".")
        mended: Graph = getattr(import_module(f"mlia.transforms.remedies.{module}"), name)(graph, *arguments)
        return mended

    return change


class Finding(Struct, frozen=True):
    """One offence, with all operators that commit it alike.

    `evidence` has the offending figures, `remedy` what to do, in the imperative. `why_not_tried` is needed where there
    are no `fixes`. With `only_if_gain`, it is no advice unless a fix brings something. `at_stake_ms` bounds from above
    what can be saved.
    """

    operators: tuple[OperatorId, ...]
    evidence: str
    remedy: str
    fixes: tuple[Fix, ...] = ()
    why_not_tried: str = ""
    aim: Aim = Aim.TIME
    only_if_gain: bool = False
    at_stake_ms: float | None = None


def operand(subgraph: Subgraph, operator: Operator, position: int) -> Tensor | None:
    """An input by its position, or None where there is none."""
    inputs = operator.inputs
    return subgraph.tensor(inputs[position]) if position < len(inputs) else None


def result(subgraph: Subgraph, operator: Operator) -> Tensor | None:
    """The first output, or None where there is none."""
    return subgraph.tensors[operator.outputs[0]] if operator.outputs else None


class Refused(Struct, frozen=True):
    """An operator that the NPU does not take, and one constraint that it breaks."""

    placement: Placement
    operator: Operator
    subgraph: Subgraph
    constraint: Constraint

    @property
    def id(self) -> OperatorId:
        return OperatorId(self.placement.subgraph, self.placement.index)

    def tensor(self, position: int) -> Tensor | None:
        """An input by its position, or None where there is none."""
        return operand(self.subgraph, self.operator, position)

    @property
    def output(self) -> Tensor | None:
        """The first output, or None where there is none."""
        return result(self.subgraph, self.operator)


class Case:
    """A model on an Ethos-U: the graph, the target, and what the check found out."""

    def __init__(self, graph: Graph, target: Target, compatibility: Compatibility, performance: Performance) -> None:
        self.graph = graph
        self.target = target
        self.compatibility = compatibility
        self.performance = performance

    def operator(self, which: OperatorId | Placement | OperatorCost) -> Operator:
        """The operator of the graph that a result speaks of."""
        return self.subgraph(which).operators[which.index]

    def subgraph(self, which: OperatorId | Placement | OperatorCost) -> Subgraph:
        """The subgraph it is in."""
        return self._subgraphs[which.subgraph]

    @cached_property
    def _subgraphs(self) -> dict[int, Subgraph]:
        return {subgraph.index: subgraph for subgraph in self.graph.subgraphs}

    @cached_property
    def costs(self) -> dict[OperatorId, OperatorCost]:
        """What each operator costs on the NPU."""
        return {OperatorId(cost.subgraph, cost.index): cost for cost in self.performance.operators}

    @cached_property
    def cpu_costs(self) -> dict[OperatorId, CpuCost]:
        """What each operator that is left to the host costs there."""
        return {OperatorId(cost.subgraph, cost.index): cost for cost in self.performance.cpu_costs}

    @cached_property
    def placements(self) -> dict[OperatorId, Placement]:
        """Where each operator runs."""
        return {
            OperatorId(placement.subgraph, placement.index): placement for placement in self.compatibility.operators
        }

    @cached_property
    def refused(self) -> tuple[Refused, ...]:
        """Every operator on the CPU with every constraint that it breaks."""
        return tuple(
            Refused(placement, self.operator(placement), self.subgraph(placement), constraint)
            for placement in self.compatibility.operators
            if placement.processor == Unit.CPU
            for constraint in placement.constraints
        )

    def milliseconds(self, operators: Iterable[OperatorId]) -> float | None:
        """What these operators take, on the NPU or on the host; None when nothing is known of any."""
        known = []
        for each in operators:
            cost = self.costs.get(each)
            if cost is not None and cost.latency_ms is not None:
                known.append(cost.latency_ms)
        return sum(known) if known else None

    def share(self, operators: Iterable[OperatorId]) -> float:
        """The part of the whole time, 0..1, that these operators take; 0 when it is not known."""
        part, whole = self.milliseconds(operators), self.performance.known_ms
        return min(part / whole, 1.0) if part and whole else 0.0


class CpuCase:
    """A model on a Cortex-M alone."""

    def __init__(
        self, graph: Graph, target: CpuTarget, compatibility: CpuCompatibility, performance: CpuPerformance
    ) -> None:
        self.graph = graph
        self.target = target
        self.compatibility = compatibility
        self.performance = performance


class Rule:
    """What all rules have. The docstring of a rule is Markdown: a first sentence, then its sections.

    Sections are: Why it matters, How it is found, What to do, Limits, Source.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity] = Severity.NOTE

    @classmethod
    def page(cls) -> str:
        """The rule's page, without indentation."""
        from inspect import cleandoc  # takes longer to import than all rules take to run

        return cleandoc(cls.__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """Its first sentence."""
        return cls.page().partition("\n\n")[0].replace("\n", " ")


class NpuRule(Rule):
    """A rule about a model on an Ethos-U. `reads` is the result that must have been asked for."""

    reads: ClassVar[type[Compatibility] | type[Performance]] = Performance

    def skip(self, case: Case) -> str:
        """Why the rule does not apply to this target or model; empty when it does."""
        return ""

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        raise NotImplementedError


class CompiledRule(Rule):
    """A rule about a model that is compiled already; it has no result."""

    def check(self, compiled: Sequence[Compiled], target: AnyTarget) -> Iterator[Finding]:
        """What is wrong."""
        raise NotImplementedError


class CpuRule(Rule):
    """A rule about a model on a Cortex-M alone."""

    def skip(self, case: CpuCase) -> str:
        """Why the rule does not apply to this target or model; empty when it does."""
        return ""

    def check(self, case: CpuCase) -> Iterator[Finding]:
        """What is wrong."""
        raise NotImplementedError


class ConstraintRule(NpuRule):
    """A rule about constraints of the NPU that operators break.

    `sentences` are how Vela's published sentences begin (`regor.tflite_operator_constraints`); the rule is about the
    refusals that quote one of them.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    reads = Compatibility
    sentences: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def is_about(cls, constraint: Constraint) -> bool:
        """Whether a refusal quotes one of the sentences."""
        return constraint.rule.startswith(cls.sentences)

    def refusals(self, case: Case) -> list[Refused]:
        """The refusals that this rule is about, one for each operator."""
        found = {refused.id: refused for refused in reversed(case.refused) if self.is_about(refused.constraint)}
        return list(found.values())[::-1]
