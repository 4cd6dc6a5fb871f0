from mlia.backends.vela.output import Refusal, read_refusals, tensor_lives
from mlia.backends.vela.process import Compilation
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


def tensors_of(*rows: tuple[str, int, int, int]) -> Compilation:
    """What the compiler tells of tensors: the name of each, its first and last time, and its address."""
    columns = ["name", "memory", "usage", "start_time", "end_time", "start_address", "size"]
    kinds = [[name, "Sram", "OpLocal", str(start), str(end), hex(place), "0x40"] for name, start, end, place in rows]
    keys = [str(number) for number in range(len(rows))]
    table = {"keys": keys, "columns": columns, "kinds": kinds, "rows": list(range(len(rows)))}
    return Compilation({"report": {}, "tables": {"tensors": table}}, b"", "")


def test_tensors_that_the_compiler_makes_are_named_alike_in_every_run() -> None:
    names = {"image": "image", "t7_1": "conv_1"}
    own = ("image", 0, 2, 0), ("t7_1", 2, 4, 64)
    one = tensors_of(*own, ("soft_13", 4, 6, 0), ("soft_12", 4, 7, 64), ("soft_3", 6, 8, 128))
    other = tensors_of(("soft_15", 4, 7, 64), ("soft_14", 4, 6, 0), ("soft_3", 6, 8, 128), *own)
    found = tensor_lives(one, 0, names)
    assert found == tensor_lives(other, 0, names)
    assert [life.name for life in found] == ["image", "conv_1", "soft (1)", "soft (2)", "soft (3)"]
    assert [life.address for life in found] == [0, 64, 0, 64, 128]
