"""Rules about state, control flow, and operators of other frameworks."""

from collections.abc import Iterator

from mlia.results import Constraint
from mlia.rules.compatibility.refusals import KindRule, finding, is_type_of_variable, kinds, places, to_validate
from mlia.rules.phrases import named
from mlia.rules.rule import Case, Finding, Rule, later

_STATE = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_VARIABLES = ("READ_VARIABLE", "ASSIGN_VARIABLE")
CONTROL = ("WHILE", "IF", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE")


class ResourceVariables(KindRule):
    """The model keeps state in resource variables, which run on the CPU.

    ## Why it matters
    On Ethos-U55 and U65 each READ_VARIABLE and ASSIGN_VARIABLE splits the NPU's work in two, with a hand-over each.

    ## How it is found
    VAR_HANDLE, READ_VARIABLE or ASSIGN_VARIABLE run on the CPU: on Ethos-U85 where the variable is float32.

    ## What to do
    Let the program keep the state: an input for each variable, and an output that is given to the next inference.
    At first, give what the variables were set to (most often the zero point).

    ## Limits
    Whoever calls the model must change. Variables that subgraphs share are not tried.

    ## Source
    Vela 5.2: Ethos-U85 has READ_VARIABLE and ASSIGN_VARIABLE for integers; Ethos-U55 and U65 have neither.
    """

    code = "CMP019"
    name = "resource-variables"

    @classmethod
    def is_about(cls, constraint: Constraint) -> bool:
        """Whether a kind, or the type of a variable, is refused."""
        return super().is_about(constraint) or is_type_of_variable(constraint)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.of_kinds(case, *_STATE)
        main = case.graph.main
        acting = [each for each in refused if each.operator.kind in _VARIABLES and each.subgraph is main]
        if acting:
            handles = [operator for operator in main.operators if operator.kind == "VAR_HANDLE"]
            names = [str(operator.options.get("shared_name", "")) for operator in handles]
            times = "once" if len(acting) == 1 else f"{len(acting)} times"
            evidence = f"variables ({named(names)}) are read or set {times} on the CPU"
            remedy = "Keep the state in the program: an input and an output for each variable."
            if any(is_type_of_variable(each.constraint) for each in acting):
                evidence += "; they are float32, and this NPU keeps integers only"
            fix = to_validate("state as inputs and outputs", later("state.state_outside"))
            yield finding(case, refused, evidence, remedy, fix)


class ControlFlow(KindRule):
    """The model has loops or branches, which run on the CPU.

    ## Why it matters
    A loop hands over in every round. What is inside may run on the NPU, but round by round.

    ## How it is found
    WHILE, IF or CALL are in the model; most often they come from a recurrent layer.

    ## What to do
    Export recurrent layers unrolled (`unroll=True`) or as UNIDIRECTIONAL_SEQUENCE_LSTM; choose branches before the
    conversion.

    ## Limits
    The time of a loop is not estimated: nobody knows its rounds.

    ## Source
    Vela 5.2 takes no operator with subgraphs.
    """

    code = "CMP020"
    name = "control-flow"

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.of_kinds(case, *CONTROL)
        if refused:
            evidence = f"{kinds(refused)} ({places(refused)}) run on the CPU"
            remedy = "Export recurrent layers unrolled or as fused LSTM; choose branches before the conversion."
            reason = "loops and branches can only be removed where the model is made"
            yield finding(case, refused, evidence, remedy, why_not_tried=reason)


class CustomOperators(KindRule):
    """The model has custom operators, which only the program that brings their code can run.

    ## Why it matters
    The NPU does not have them, and TensorFlow Lite Micro has none of TensorFlow's own (Flex) operators: a model with
    one does not start there.

    ## How it is found
    Operators of kind CUSTOM, by their names.

    ## What to do
    Convert without `SELECT_TF_OPS`, replace what they do by built-in operators, or cut the model before them: detection
    post-processing is best done in the program.

    ## Limits
    Whether your program has their code is not known.

    ## Source
    Vela 5.2 takes no CUSTOM operator; TensorFlow Lite Micro's list of kernels.
    """

    code = "CMP021"
    name = "custom-operators"

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.of_kinds(case, "CUSTOM")
        if refused:
            flex = any(each.operator.custom_code.startswith("Flex") for each in refused)
            evidence = f"{kinds(refused)} ({places(refused)}) on the CPU: custom operators"
            if flex:
                evidence += "; Flex ones need the whole of TensorFlow"
            remedy = "Replace them by built-in operators, or end the model before them and finish in the program."
            yield finding(case, refused, evidence, remedy, why_not_tried="what they compute is not known")


RULES: tuple[type[Rule], ...] = (ResourceVariables, ControlFlow, CustomOperators)
