"""From commands to operations: what each operation is told by all the state that was set before it.

State stays from operation to operation, so a stream only sets what changes. What an operation needs and the stream has
never set is an error. Sizes that have no register are derived as `Operands` says.
"""

from collections.abc import Mapping
from typing import Literal

from mlia.errors import SimulatorError
from mlia.simulator.commands import Command, Value, commands
from mlia.simulator.container import Config, Program
from mlia.simulator.feature_map_state import Operands
from mlia.simulator.operation import (
    TABLE_SIZES,
    Activation,
    Block,
    Compute,
    Kernel,
    Operation,
    Padding,
    Range,
    Resize,
    Rounding,
    Scale,
    Stop,
    Transfer,
    Wait,
    WeightFormat,
)
from mlia.simulator.state import State

_KINDS = {
    "NPU_OP_CONV": "conv",
    "NPU_OP_DEPTHWISE": "depthwise",
    "NPU_OP_POOL": "pool",
    "NPU_OP_ELEMENTWISE": "elementwise",
    "NPU_OP_RESIZE": "resize",
}
_UNARY = {"lrelu", "abs", "clz", "not"}
_ROUNDING = {
    "dbl": Rounding.DOUBLE,
    "truncate": Rounding.TRUNCATE,
    "natural": Rounding.NATURAL,
    "double_symmetric": Rounding.DOUBLE,
    "double_asymmetric": Rounding.DOUBLE_ASYMMETRIC,
    "symmetric": Rounding.SYMMETRIC,
    "truncate_to_zero": Rounding.TRUNCATE,
    "truncate_to_lower": Rounding.TO_LOWER,
}
_ACCUMULATORS = {"i32": "int32", "i40": "int40", "i48": "int48", "f16": "fp16"}
# The span of a sub-kernel; dilation spreads its taps over the same span (Vela's weight encoder).
_DECOMPOSITION = {"d8x8": 8, "d4x4": 4}
_TABLE_STEP = 256  # bytes between tables of Ethos-U55 and U65


def operations(program: Program) -> list[Operation]:
    """The operations of a stream, in order.

    Raises:
        SimulatorError: a command, field or mode that is not known, or state that an operation needs and was never set.
    """
    state = State(program.config.family)
    found: list[Operation] = []
    for command in commands(program):
        if command.is_operation:
            found.append(_operation(command, state, program.config))
            if command.name == "NPU_OP_STOP":
                break
        else:
            state.set(command)
    return found


def _operation(command: Command, state: State, config: Config) -> Operation:
    offset, name = command.offset, command.name
    state.user = f"{name} at byte {offset:#x}"
    if name in _KINDS:
        return _compute(command, state, config)
    if name == "NPU_OP_DMA_START":
        return _transfer(offset, state)
    if name == "NPU_OP_DMA_WAIT":
        return Wait(offset, "dma", command.parameter)
    if name == "NPU_OP_KERNEL_WAIT":
        return Wait(offset, "kernel", command.parameter)
    if name == "NPU_OP_STOP":
        return Stop(offset)
    raise SimulatorError(f"{state.user} cannot be simulated")


def _compute(command: Command, state: State, config: Config) -> Compute:
    kind, is_u85 = _KINDS[command.name], state.is_u85
    mode = str(next(iter(command.fields.values()))) if kind in ("pool", "elementwise", "resize") else ""
    is_matmul = command.fields.get("weights_ifm2") == 1
    kernel, padding = _kernel(kind, state), _padding(kind, state)
    accumulator = state.fields("ACC_FORMAT")
    accumulator_source = str(accumulator.get("acc_input", "reset"))
    is_binary = kind == "elementwise" and mode not in _UNARY
    operands = Operands(state, kind, kernel, padding)
    ofm_precision = state.fields("OFM_PRECISION")
    second = "matmul" if is_matmul else "sums" if accumulator_source == "ifm2" else "operand" if is_binary else ""
    is_filtered = kind in ("conv", "depthwise") and not is_matmul
    is_global = ofm_precision["scale_mode"] == "global"
    format_ = state.fields("WEIGHT_FORMAT") if is_u85 and is_filtered else {}
    ifm_scale, ifm2_scale = _operand_scales(kind, mode, state)
    scale, rounding = _ofm_scale(state, is_global)
    return Compute(
        offset=command.offset,
        kind=kind,
        mode=mode,
        ifm=operands.ifm(),
        ofm=operands.ofm(),
        ofm_rounding=rounding,
        is_ofm_scale_global=is_global,
        ofm_scale=scale,
        activation=_activation_u85(state) if is_u85 else _activation(state),
        block=_block(state, config),
        kernel=kernel,
        padding=padding,
        upscale=operands.upscale,
        block_dependency=state.number("BLOCKDEP"),
        accumulator=_ACCUMULATORS[str(accumulator["acc_format"])],
        ifm2=operands.ifm2(second) if second else None,
        is_reversed=is_binary and operands.is_reversed,
        scaled_operand=_scaled_operand(kind, mode, state),
        ifm_scale=ifm_scale,
        ifm2_scale=ifm2_scale,
        weights=_ranges(state, "WEIGHT", _streams(state, config)) if is_filtered else (),
        scales=_scale_ranges(kind, state, config, is_filtered, is_global),
        weight_format=WeightFormat.FAST if format_.get("weight_format") == "fwd" else WeightFormat.STANDARD,
        is_sparse=format_.get("weight_sparsity") == "sparse_2_4",
        is_matmul=is_matmul,
        ofm_transpose=str(ofm_precision.get("activation_transpose", "hwc")),
        resize=_resize(mode, state) if kind == "resize" else None,
        ofm_reverse=str(ofm_precision.get("activation_reverse", "none")),
        accumulator_source=accumulator_source,
        is_output_enabled=accumulator.get("acc_output", "enable") == "enable",
        cores=_cores(state, config),
    )


def _kernel(kind: str, state: State) -> Kernel:
    """Elementwise operations and resizes have no kernel; what the state says of one is of an earlier operation."""
    if kind in ("elementwise", "resize"):
        return Kernel((1, 1), (1, 1), (1, 1), False)
    fields = state.fields("KERNEL_STRIDE")
    taps, stride, dilation, span = [], [], [], []
    for axis, name in (("y", "HEIGHT"), ("x", "WIDTH")):
        factor = 2 if fields[f"dilation_{axis}"] == "x2" else 1
        extent = state.number(f"KERNEL_{name}_M1")  # of the dilated kernel, less one
        if extent % factor:
            raise SimulatorError(f"{state.user} has a kernel of {extent + 1} with a dilation of {factor}")
        taps.append(extent // factor + 1)
        stride.append(1 + int(fields[f"stride_{axis}_lsb"]) + 2 * int(fields[f"stride_{axis}_msb"]))
        dilation.append(factor)
        span.append(_DECOMPOSITION[str(fields["decomposition"])] // factor)
    return Kernel(
        (taps[0], taps[1]),
        (stride[0], stride[1]),
        (dilation[0], dilation[1]),
        fields["weight_order"] == "part_kernel_first",
        (span[0], span[1]),
    )


def _padding(kind: str, state: State) -> Padding:
    if kind in ("elementwise", "resize"):
        return Padding(0, 0, 0, 0)
    return Padding(*(state.number(f"IFM_PAD_{side}") for side in ("TOP", "LEFT", "BOTTOM", "RIGHT")))


def _block(state: State, config: Config) -> Block:
    """Ethos-U85's micro-blocks are as deep as its MACs allow: 8 of them work on one output (Regor's disassembly)."""
    sizes = [state.number(f"OFM_BLK_{axis}_M1") + 1 for axis in ("HEIGHT", "WIDTH", "DEPTH")]
    if not state.is_u85:
        return Block(sizes[0], sizes[1], sizes[2])
    unit = str(state.fields("ACC_FORMAT")["microblock"])  # such as "u2x4"
    height, width = int(unit[1]), int(unit[3])
    return Block(sizes[0], sizes[1], sizes[2], height, width, config.macs_per_cycle // (8 * height * width))


def _scale(fields: Mapping[str, Value], rounding: Rounding) -> Scale:
    return Scale(int(fields["scale"]), int(fields.get("shift", 0)), rounding, int(fields.get("dbl_rnd", 0)))


def _ofm_scale(state: State, is_global: bool) -> tuple[Scale, Rounding]:
    """Ethos-U55 and U65 say in the output's precision how is rounded, Ethos-U85 in the scale.

    Without a global scale the register may never have been set; then each channel has its own.
    """
    where = "OFM_SCALE" if state.is_u85 else "OFM_PRECISION"
    rounding = _ROUNDING[str(state.fields(where)["round_mode"])]
    if not is_global and not state.has("OFM_SCALE"):
        return Scale(1, 0, rounding), rounding
    return _scale(state.fields("OFM_SCALE"), rounding), rounding


def _operand_scales(kind: str, mode: str, state: State) -> tuple[Scale | None, Scale | None]:
    """Of the inputs of an elementwise operation. On Ethos-U55 and U65 only additions and subtractions have them."""
    if kind != "elementwise":
        return None, None
    if state.is_u85:
        first, second = state.fields("IFM_SCALE"), None
        if mode == "lrelu" or mode not in _UNARY:
            fields = state.fields("IFM2_SCALE")
            second = _scale(fields, _ROUNDING[str(fields["round_mode"])])
        return _scale(first, _ROUNDING[str(first["round_mode"])]), second
    if mode not in ("add", "sub"):
        return None, None
    rounding = _ROUNDING[str(state.fields("IFM_PRECISION")["round_mode"])]
    return _scale(state.fields("OPA_SCALE"), rounding), _scale(state.fields("OPB_SCALE"), rounding)


def _scaled_operand(kind: str, mode: str, state: State) -> str:
    if state.is_u85 or kind != "elementwise" or mode not in ("add", "sub"):
        return ""
    return {"opa_opb_16": "", "opa_32": "a", "opb_32": "b"}[str(state.fields("IFM_PRECISION")["scale_mode"])]


def _bounds(state: State, is_signed: bool) -> tuple[int, int]:
    low, high = state.number("ACTIVATION_MIN"), state.number("ACTIVATION_MAX")
    return (low, high) if is_signed else (low & 0xFFFF, high & 0xFFFF)


def _activation(state: State) -> Activation:
    """Ethos-U55 and U65. A result of 32 bits is not clipped unless the range is forced (INFERRED: all streams agree).

    What goes into a table has the output's type, or that of the forced range. Tables of any size are numbered in steps
    of the smallest (Regor's generator).
    """
    fields, ofm = state.fields("ACTIVATION"), state.fields("OFM_PRECISION")
    forced = str(fields["activation_clip_range"])
    forced = "" if forced == "ofm_precision" else forced.removeprefix("force_")
    is_signed = not forced.startswith("u") if forced else ofm["activation_type"] == "signed"
    out = ("s" if ofm["activation_type"] == "signed" else "u") + str(ofm["activation_precision"])[1:]
    low, high = _bounds(state, is_signed)
    function, _, table = str(fields["activation_function"]).partition("_")
    into = forced.replace("uint", "u").replace("int", "s") or out
    return Activation(
        function="none" if function == "relu" else function,
        low=low,
        high=high,
        table=int(table or 0),
        table_at=_TABLE_STEP * int(table or 0),
        table_kind=f"{into}>{out}" if table else "",
        is_clipped=bool(forced) or ofm["activation_precision"] != "b32",
        forced_range=forced,
    )


def _activation_u85(state: State) -> Activation:
    """A table begins at its number times its own size (Regor's generator)."""
    fields = state.fields("ACTIVATION")
    low, high = _bounds(state, state.fields("OFM_PRECISION")["activation_type"] == "signed")
    function = str(fields["activation_function"]).removeprefix("lut_")
    is_table = function[0] in "us" and function[1].isdigit()
    kind = function.replace("_", ">") if is_table else ""
    table = int(fields["table"]) if is_table else 0
    return Activation(
        function="table" if is_table else function,
        low=low,
        high=high,
        table=table,
        table_at=TABLE_SIZES.get(kind, 0) * table,
        table_kind=kind,
        is_clipped=fields["activation_clip_range"] != "none",
    )


def _cores(state: State, config: Config) -> int:
    if config.cores == 1:
        return 1
    return config.cores if state.fields("PARALLEL_MODE")["parallel_mode"] == "dual_core_depth" else 1


def _streams(state: State, config: Config) -> int:
    """How many weight streams there are: one per core on Ethos-U65-512, up to four on Ethos-U85 (Vela's streams)."""
    if state.is_u85:
        return {128: 1, 256: 1, 512: 2}.get(config.macs_per_cycle, 4)
    return _cores(state, config)


def _ranges(state: State, what: Literal["WEIGHT", "SCALE"], streams: int) -> tuple[Range, ...]:
    """One range per stream; one that has nothing is empty, and may have no address."""
    region = state.number(f"{what}_REGION")
    found = []
    for name in (what, *(f"{what}{number}" for number in range(1, streams))):
        length = state.number(f"{name}_LENGTH")
        found.append(Range(region, state.number(f"{name}_BASE") if length else 0, length))
    return tuple(found)


def _scale_ranges(kind: str, state: State, config: Config, is_filtered: bool, is_global: bool) -> tuple[Range, ...]:
    """Ethos-U85 has one list of scales, which its poolings can have too; Ethos-U65 one per core."""
    if state.is_u85:
        has_any = not is_global and kind in ("conv", "depthwise", "pool")
        return _ranges(state, "SCALE", 1) if is_filtered or has_any else ()
    return _ranges(state, "SCALE", _streams(state, config)) if is_filtered else ()


def _resize(mode: str, state: State) -> Resize:
    y, x = state.fields("RESIZE_Y_STEP"), state.fields("RESIZE_X_STEP")
    return Resize(
        mode,
        state.number("RESIZE_Y_SCALE_N_M1") + 1,
        (int(y["one_step_int"]), int(y["one_step_mod"])),
        state.number("RESIZE_Y_OFFSET"),
        state.number("RESIZE_X_SCALE_N_M1") + 1,
        (int(x["one_step_int"]), int(x["one_step_mod"])),
        state.number("RESIZE_X_OFFSET"),
    )


def _transfer(offset: int, state: State) -> Transfer:
    source, destination = state.fields("DMA0_SRC_REGION"), state.fields("DMA0_DST_REGION")
    mode, is_to_table = str(source["stride_mode"]), destination["region_mode"] == "internal"
    if source["region_mode"] == "internal":
        raise SimulatorError(f"{state.user} reads from the NPU's own memory, which is not known")
    is_gather, is_scatter = source.get("idx_mode") == "enabled", destination.get("idx_mode") == "enabled"
    if not state.is_u85 and (mode != "d1" or destination["stride_mode"] != "d1"):
        raise SimulatorError(f"{state.user} moves rows, which is not known of an {state.family}")
    rows = state.number("DMA0_SIZE0") if mode != "d1" else 1
    planes = state.number("DMA0_SIZE1") if mode == "d3" else 1

    def strides(which: str, is_indexed: bool) -> tuple[int, int]:
        first = state.number(f"DMA0_{which}_STRIDE0") if mode != "d1" or is_indexed else 0
        return first, state.number(f"DMA0_{which}_STRIDE1") if mode == "d3" else 0

    indexed = "source" if is_gather else "destination" if is_scatter else ""
    return Transfer(
        offset,
        int(source["region"]),
        state.number("DMA0_SRC"),
        int(destination["region"]),
        state.number("DMA0_DST"),
        state.number("DMA0_LEN"),
        is_to_table,
        f"{mode[1]}d",
        rows,
        planes,
        strides("SRC", is_gather),
        strides("DST", is_scatter),
        indexed,
        _indexes(mode, rows, state) if indexed else None,
        state.number("DMA0_IDX_MAX") if indexed else 0,
    )


def _indexes(mode: str, rows: int, state: State) -> Range:
    """The numbers of rows, int32, that an indexed transfer takes (Vela's generator writes one per row)."""
    if mode == "d3":
        raise SimulatorError(f"{state.user} has indexes for more than one plane, which is not known")
    return Range(state.number("DMA0_IDX_REGION"), state.number("DMA0_IDX"), 4 * rows)
