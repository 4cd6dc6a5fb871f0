from mlia.backends.vela.output import Refusal, read_refusals
from mlia.results import Constraint

LOG = """Tensor 'x' has a dynamic signature in axis 0. Setting shape axis 0 to 1 and proceeding.

Warning (supported operators) operator: CONV_2D, ofm: 'it's a name'
Reason: Unsupported kernel stride: 5, 5
Stride values must be small
  - and positive

Warning (supported operators) operator: CUMSUM, ofm: 'middle'
Reason: Unsupported opType

Warning (supported operators) operator: CUMSUM, ofm: 'middle'
Reason: Unsupported opType
"""


def test_paragraphs_become_refusals_each_once() -> None:
    rule = "Stride values must be small; - and positive"
    assert read_refusals(LOG) == [
        Refusal("CONV_2D", "it's a name", Constraint("Unsupported kernel stride: 5, 5", rule)),
        Refusal("CUMSUM", "middle", Constraint("Unsupported opType")),
    ]


def test_a_heading_alone_is_still_a_refusal() -> None:
    (refusal,) = read_refusals("Warning (semantic) operator: ADD, ofm: 'a'")
    assert refusal.constraint.violation == "no reason given"
