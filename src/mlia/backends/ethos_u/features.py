"""Vela's tables -> what the model of the timing needs to know of each compiled step.

Vela 5.2 writes one row of `perf` for each step; `perf_debug_main` has the cycles of the units of the NPU and the
blocks they work in, and `perf_debug` the shapes and the bytes of each step. A step without a row in
`perf_debug_main` runs as part of another one, or on the CPU: it takes no time of its own on the NPU.
"""

from collections import Counter, defaultdict
from math import prod
from typing import TypeAlias

from msgspec import Struct

from mlia.backends.vela.output import MEMORY_NAMES, input_bytes, sized
from mlia.backends.vela.process import Compilation
from mlia.targets.target import Target

COUNTED = ("convolution", "depthwise", "pool")  # kinds of which MACs are counted from shapes
POOLS = ("AvgPool", "MaxPool", "ReduceSum", "ReduceMax", "ReduceMin", "ArgMax")
LANES = 8  # input channels that one output sees in a cycle
DEPTH_UNIT = 32  # channels of the input that are worked on at once
PART_KERNEL_UNIT = 16  # the same where elements of the kernel share the lanes, as they do for few channels
COPIES = ("MemoryCopy",)
LINEAR = "NHWC"
_Row: TypeAlias = dict[str, str]
_Numbers: TypeAlias = defaultdict[str, int]


class Transfer(Struct, frozen=True, omit_defaults=True):
    """What a step moves to and from one memory ("sram", "dram" or "flash"), in bytes.

    `input_bytes` is what is needed of the inputs in that memory, `feature_map_read` what Vela counts that is read of
    them, some of it repeatedly. `linear_input_bytes` and `linear_written` are what of inputs and output lies as NHWC.
    `weights` and `scales` are read by the decoder of weights, `copied` by the DMA into a buffer
    in SRAM.
    """

    memory: str
    input_bytes: int = 0
    feature_map_read: int = 0
    feature_map_written: int = 0
    linear_input_bytes: int = 0
    linear_written: int = 0
    weights: int = 0
    scales: int = 0
    copied: int = 0


class StepFeatures(Struct, frozen=True, omit_defaults=True):
    """One compiled step; cycles are Vela's own estimates.

    `padded_macs` are multiplications with what the hardware fills up: output and input to the units it works in.
    `decoded_weights` are the weights that the decoder gives for them, zeros included, anew for each of the `areas`.
    `is_one_unit` when a block has one such unit only in height and width. `areas` and `slices` are the blocks of the
    output side by side and in depth. `traversal` is Vela's word for the order of the work
    (DepthFirst, PartKernel or Depthwise); `kind` one of convolution, depthwise, pool, copy, elementwise or none.
    `is_sparse` when 2:4 sparse weights save multiplications. `launches` is how often the NPU is told to work for it:
    once for each stripe and slice of channels.
    """

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
    launches: int = 1
    transfers: tuple[Transfer, ...] = ()


IDLE = StepFeatures()


def features_of(compilation: Compilation, target: Target) -> tuple[StepFeatures, ...]:
    """The features of each scheduled step, in the order of Vela's table "perf". Steps that are alike are one object."""
    details, units = compilation.by_key("perf_debug"), compilation.by_key("perf_debug_main")
    launches = Counter(row["scheduled_id"] for row in compilation.rows("queue"))
    known: dict[tuple[int, int, int, int], StepFeatures] = {}  # by the rows, which live as long as the compilation
    features = []
    for step, row in zip(compilation.keys("perf"), compilation.rows("perf"), strict=True):
        if step not in units or step not in details:
            features.append(IDLE)
            continue
        key = id(row), id(details[step]), id(units[step]), launches[step]
        if key not in known:
            known[key] = _step(row, details[step], units[step], launches[step])
        features.append(known[key])
    return tuple(features)


def _step(row: _Row, details: _Row, units: _Row, launches: int) -> StepFeatures:
    sizes, blocks = _numbers(details), _numbers(units)
    traversal = units.get("traversal", "")
    kind = _kind(row["operator"], traversal, sizes["weight_total_bytes"])
    is_sparse = "Sparse" in details.get("weight_format", "") and sizes["ifm_shape_c"] >= PART_KERNEL_UNIT
    worked_on = _worked_on(sizes["ifm_shape_c"], traversal, is_sparse)
    areas, slices = _blocks(sizes, blocks)
    return StepFeatures(
        kind=kind,
        traversal=traversal,
        mac_cycles=blocks["mac_cycles"],
        output_cycles=blocks["ao_cycles"],
        npu_cycles=int(row["npu_cycles"] or 0),
        total_cycles=int(row["op_cycles"] or 0),
        padded_macs=_padded_macs(kind, sizes, blocks, worked_on),
        decoded_weights=_decoded_weights(kind, sizes, blocks, worked_on) * areas,
        is_one_unit=sizes["ofm_shape_h"] * sizes["ofm_shape_w"] == 1,
        areas=areas,
        slices=slices,
        input_block_bytes=blocks["ifm_block_h"] * blocks["ifm_block_w"] * sizes["ifm_shape_c"],
        weights_bytes=sizes["weight_total_bytes"],
        prefetched_share=_prefetched(details, sizes),
        is_sparse=is_sparse,
        launches=launches,
        transfers=_transfers(row["operator"], details, sizes),
    )


def _numbers(row: _Row) -> _Numbers:
    """What of a row is a number; 0 for what it does not have."""
    return defaultdict(int, {column: int(text) for column, text in row.items() if text.lstrip("-").isdecimal()})


def _kind(operator: str, traversal: str, weights_bytes: int) -> str:
    if operator in COPIES:
        return "copy"
    if operator in POOLS:
        return "pool"
    if traversal == "Depthwise":
        return "depthwise"
    return "convolution" if weights_bytes else "elementwise"


def _blocks(sizes: _Numbers, blocks: _Numbers) -> tuple[int, int]:
    """In how many blocks the output is computed: side by side, and slices of channels."""
    sides = [(sizes[f"ofm_shape_{axis}"], blocks[f"ofm_block_{axis}"]) for axis in "hwc"]
    tall, wide, deep = (max(1, -(-whole // block)) if block else 1 for whole, block in sides)
    return tall * wide, deep


def _padded_macs(kind: str, sizes: _Numbers, blocks: _Numbers, worked_on: int) -> int:
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
        outputs *= _filled(sizes[f"ofm_shape_{axis}"], blocks[f"ofm_ublock_{axis}"] or 1)
    return outputs * _taps(sizes) * (LANES if kind != "convolution" else worked_on)


def _decoded_weights(kind: str, sizes: _Numbers, blocks: _Numbers, worked_on: int) -> int:
    """Weights of the whole output, with those that fill up its channels and the input's."""
    if kind not in ("convolution", "depthwise"):
        return 0
    channels = _filled(sizes["ofm_shape_c"], blocks["ofm_ublock_c"] or 1)
    return channels * _taps(sizes) * (worked_on if kind == "convolution" else 1)


def _taps(sizes: _Numbers) -> int:
    return max(1, sizes["kernel_size_x"] * sizes["kernel_size_y"])


def _worked_on(channels: int, traversal: str, is_sparse: bool) -> int:
    """Channels of the input that a convolution spends time on for each of its outputs and taps.

    `is_sparse` is whether 2:4 sparsity saves multiplications.
    """
    if channels <= LANES:
        return LANES
    unit = PART_KERNEL_UNIT if traversal == "PartKernel" else DEPTH_UNIT
    return _filled(channels, unit) // (2 if is_sparse else 1)


def _filled(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _prefetched(details: _Row, sizes: _Numbers) -> float:
    """The share of the copied weights that the DMA fetches while the step before works: the first slice of channels."""
    if not sizes["weight_pre_buffer"]:
        return 0.0
    ends = [int(end) for end in details.get("ofm_depth_slices", "").split("|") if end]
    if details.get("weight_buffering") == "Single" or len(ends) < 2 or not ends[-1]:
        return 1.0
    return (ends[1] - ends[0]) / ends[-1]


def _transfers(operator: str, details: _Row, sizes: _Numbers) -> tuple[Transfer, ...]:
    """Bytes by memory. Vela copies weights into a buffer where it writes weights."""
    buffered = any(sizes[f"{kind}Weights_write"] + sizes[f"{kind}Scales_write"] for kind in MEMORY_NAMES)
    inputs = [
        (details.get(f"{name}_memory"), input_bytes(operator, details, name), details.get(f"{name}_format") == LINEAR)
        for name in ("ifm", "ifm2")
    ]
    output = sized(prod(sizes[f"ofm_shape_{axis}"] for axis in "nhwc"), details.get("ofm_dtype", ""))
    transfers = []
    for kind, memory in MEMORY_NAMES.items():
        weights, copied = sizes[f"{kind}Weights_read"], sizes[f"{kind}Weights_write"]
        is_copied = buffered and not copied
        written = sizes[f"{kind}FeatureMap_write"]
        written = written if kind == "Sram" else min(written, output)
        transfers.append(
            Transfer(
                memory=memory,
                input_bytes=sum(size for where, size, _ in inputs if where == kind),
                linear_input_bytes=sum(size for where, size, is_linear in inputs if where == kind and is_linear),
                feature_map_read=sizes[f"{kind}FeatureMap_read"] + sizes[f"{kind}Lut_read"],
                feature_map_written=written,
                linear_written=written if details.get("ofm_format") == LINEAR else 0,
                weights=0 if is_copied else weights,
                scales=sizes[f"{kind}Scales_read"],
                copied=weights if is_copied else copied,
            )
        )
    return tuple(each for each in transfers if each != Transfer(each.memory))
