"""Vela's tables -> what the model of the timing needs to know of each compiled step.

Vela 5.2 writes one row of `perf` for each step; `perf_debug_main` has the cycles of the units of the NPU and the
blocks they work in, and `perf_debug` the shapes and the bytes of each step. A step without a row in
`perf_debug_main` runs as part of another one, or on the CPU: it takes no time of its own on the NPU.
"""

from msgspec import Struct

from mlia.backends.vela_output import MEMORY_NAMES
from mlia.backends.vela_process import Compilation
from mlia.targets.target import Target

COUNTED = ("convolution", "depthwise", "pool")  # kinds of which MACs are counted from shapes
POOLS = ("AvgPool", "MaxPool", "ReduceSum", "ReduceMax", "ReduceMin", "ArgMax")
LANES = 8  # input channels that one output sees in a cycle
DEPTH_UNIT = 32  # channels of the input that are worked on at once
PART_KERNEL_UNIT = 16  # the same where elements of the kernel share the lanes, as they do for few channels
COPIES = ("MemoryCopy",)


class Transfer(Struct, frozen=True):
    """What a step moves to and from one memory ("sram", "dram" or "flash"), in bytes.

    `input_bytes` is the size of the inputs in that memory, `feature_map_read` what Vela counts that is read of them,
    some of it repeatedly. `weights` and `scales` are read by the decoder of weights, `copied` by the DMA into a buffer
    in SRAM.
    """

    memory: str
    input_bytes: int = 0
    feature_map_read: int = 0
    feature_map_written: int = 0
    weights: int = 0
    scales: int = 0
    copied: int = 0


class StepFeatures(Struct, frozen=True):
    """One compiled step. `step` is the id in Vela's table "perf"; cycles are Vela's own estimates.

    `padded_macs` are multiplications with what the hardware fills up: output and input to the units it works in.
    `decoded_weights` are the weights that the decoder gives for them, zeros included, anew for each of the `areas`.
    `is_one_unit` when a block has one such unit only in height and width. `areas` and `slices` are the blocks of the
    output side by side and in depth. `traversal` is Vela's word for the order of the work
    (DepthFirst, PartKernel or Depthwise); `kind` one of convolution, depthwise, pool, copy, elementwise or none.
    `is_sparse` when 2:4 sparse weights save multiplications.
    """

    step: str
    kind: str = "none"
    traversal: str = ""
    mac_cycles: int = 0
    output_cycles: int = 0
    npu_cycles: int = 0
    total_cycles: int = 0
    padded_macs: int = 0
    decoded_weights: int = 0
    is_one_unit: bool = False
    areas: int = 1
    slices: int = 1
    input_block_bytes: int = 0
    weights_bytes: int = 0
    prefetched_share: float = 0.0
    is_sparse: bool = False
    transfers: tuple[Transfer, ...] = ()


def features_of(compilation: Compilation, target: Target) -> tuple[StepFeatures, ...]:
    """The features of each scheduled step, in the order in which the compiler scheduled them."""
    details = {row["id"]: row for row in compilation.rows("perf_debug")}
    units = {row["id"]: row for row in compilation.rows("perf_debug_main")}
    return tuple(
        _step(row, details[row["id"]], units[row["id"]])
        if row["id"] in units and row["id"] in details
        else StepFeatures(row["id"])
        for row in compilation.rows("perf")
    )


def _step(row: dict[str, str], details: dict[str, str], units: dict[str, str]) -> StepFeatures:
    traversal = units.get("traversal", "")
    weights_bytes = _number(details, "weight_total_bytes")
    kind = _kind(row["operator"], traversal, weights_bytes)
    areas, slices = _blocks(details, units)
    return StepFeatures(
        step=row["id"],
        kind=kind,
        traversal=traversal,
        mac_cycles=_number(units, "mac_cycles"),
        output_cycles=_number(units, "ao_cycles"),
        npu_cycles=_number(row, "npu_cycles"),
        total_cycles=_number(row, "op_cycles"),
        padded_macs=_padded_macs(kind, details, units),
        decoded_weights=_decoded_weights(kind, details, units) * areas,
        is_one_unit=_number(details, "ofm_shape_h") * _number(details, "ofm_shape_w") == 1,
        areas=areas,
        slices=slices,
        input_block_bytes=_number(units, "ifm_block_h")
        * _number(units, "ifm_block_w")
        * _number(details, "ifm_shape_c"),
        weights_bytes=weights_bytes,
        prefetched_share=_prefetched(details),
        is_sparse=_is_sparse(details),
        transfers=_transfers(details),
    )


def _kind(operator: str, traversal: str, weights_bytes: int) -> str:
    if operator in COPIES:
        return "copy"
    if operator in POOLS:
        return "pool"
    if traversal == "Depthwise":
        return "depthwise"
    return "convolution" if weights_bytes else "elementwise"


def _blocks(details: dict[str, str], units: dict[str, str]) -> tuple[int, int]:
    """In how many blocks the output is computed: side by side, and slices of channels."""
    sides = [(_number(details, f"ofm_shape_{axis}"), _number(units, f"ofm_block_{axis}")) for axis in "hwc"]
    tall, wide, deep = (max(1, -(-whole // block)) if block else 1 for whole, block in sides)
    return tall * wide, deep


def _padded_macs(kind: str, details: dict[str, str], units: dict[str, str]) -> int:
    """Multiplications, the output filled up to whole micro-blocks and the input's channels to what is read at once.

    The published cycles of single operators and of the layers of two networks show that the window is not filled up,
    and that 2:4 sparsity saves nothing where it is only in channels that were filled up. Layers of 140 channels take
    as long as 160 would and those of 276 as long as 288 would, on 128 and 256 MACs within 2 %; nothing is measured of
    16 channels or fewer that are worked on in this way.
    """
    if kind not in COUNTED:
        return 0
    outputs = 1
    for axis in "nhwc":
        outputs *= _filled(_number(details, f"ofm_shape_{axis}"), _number(units, f"ofm_ublock_{axis}") or 1)
    return outputs * _taps(details) * (LANES if kind != "convolution" else _worked_on(details, units))


def _decoded_weights(kind: str, details: dict[str, str], units: dict[str, str]) -> int:
    """Weights of the whole output, with those that fill up its channels and the input's."""
    if kind not in ("convolution", "depthwise"):
        return 0
    channels = _filled(_number(details, "ofm_shape_c"), _number(units, "ofm_ublock_c") or 1)
    return channels * _taps(details) * (_worked_on(details, units) if kind == "convolution" else 1)


def _taps(details: dict[str, str]) -> int:
    return max(1, _number(details, "kernel_size_x") * _number(details, "kernel_size_y"))


def _worked_on(details: dict[str, str], units: dict[str, str]) -> int:
    """Channels of the input that a convolution spends time on for each of its outputs and taps."""
    channels = _number(details, "ifm_shape_c")
    if channels <= LANES:
        return LANES
    unit = PART_KERNEL_UNIT if units.get("traversal") == "PartKernel" else DEPTH_UNIT
    return _filled(channels, unit) // (2 if _is_sparse(details) else 1)


def _is_sparse(details: dict[str, str]) -> bool:
    """Whether 2:4 sparsity saves multiplications."""
    return "Sparse" in details.get("weight_format", "") and _number(details, "ifm_shape_c") >= PART_KERNEL_UNIT


def _filled(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _prefetched(details: dict[str, str]) -> float:
    """The share of the copied weights that the DMA fetches while the step before works: the first slice of channels."""
    if not _number(details, "weight_pre_buffer"):
        return 0.0
    ends = [int(end) for end in details.get("ofm_depth_slices", "").split("|") if end]
    if details.get("weight_buffering") == "Single" or len(ends) < 2 or not ends[-1]:
        return 1.0
    return (ends[1] - ends[0]) / ends[-1]


def _transfers(details: dict[str, str]) -> tuple[Transfer, ...]:
    """Bytes by memory. Vela copies weights into a buffer where it writes weights."""
    buffered = sum(_number(details, f"{kind}{what}_write") for kind in MEMORY_NAMES for what in ("Weights", "Scales"))
    transfers = []
    for kind, memory in MEMORY_NAMES.items():
        weights, scales = (_number(details, f"{kind}{what}_read") for what in ("Weights", "Scales"))
        is_copied = bool(buffered) and not _number(details, f"{kind}Weights_write")
        transfers.append(
            Transfer(
                memory=memory,
                input_bytes=_inputs(details, kind),
                feature_map_read=sum(_number(details, f"{kind}{what}_read") for what in ("FeatureMap", "Lut")),
                feature_map_written=_written(details, kind),
                weights=0 if is_copied else weights,
                scales=scales,
                copied=weights if is_copied else _number(details, f"{kind}Weights_write"),
            )
        )
    return tuple(each for each in transfers if each != Transfer(each.memory))


def _inputs(details: dict[str, str], kind: str) -> int:
    return sum(_bytes(details, name) for name in ("ifm", "ifm2") if details.get(f"{name}_memory") == kind)


def _written(details: dict[str, str], kind: str) -> int:
    counted = _number(details, f"{kind}FeatureMap_write")
    return counted if kind == "Sram" else min(counted, _bytes(details, "ofm"))


def _bytes(details: dict[str, str], name: str) -> int:
    elements = 1
    for axis in "nhwc":
        elements *= _number(details, f"{name}_shape_{axis}")
    bits = "".join(filter(str.isdigit, details.get(f"{name}_dtype", ""))) or "8"
    return -(-elements * int(bits) // 8)


def _number(row: dict[str, str], column: str) -> int:
    text = row.get(column, "")
    return int(text) if text else 0
