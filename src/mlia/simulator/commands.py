"""The commands of an Ethos-U's stream: their names and fields for each family, and how to read them.

A command is one word, or one and a payload: bits 9..0 are its opcode, bits 15..14 how many payload words follow, bits
31..16 its parameter. Names, opcodes and fields are those of Vela's register definitions and of its own disassembly;
every command of all streams in the tests is compared with the latter. Values of fields are words in lower case.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from msgspec import Struct

from mlia.errors import SimulatorError
from mlia.simulator.container import Program

Value = int | str
_PAYLOAD = 0x4000


class Field(Struct, frozen=True):
    """Bits of a command: those of its parameter, or, where there is a payload, of payload | parameter << 32.

    `values` names what each number stands for; a number without a name is not known. `signed` is two's complement.
    """

    name: str
    low: int = 0
    width: int = 16
    values: Mapping[int, str] | None = None
    signed: bool = False

    def read(self, bits: int) -> Value | None:
        """The value, or nothing where its number has no name."""
        number = bits >> self.low & (1 << self.width) - 1
        if self.values is not None:
            return self.values.get(number)
        return number - (1 << self.width) if self.signed and number >> (self.width - 1) else number


class Kind(Struct, frozen=True):
    """What a family has under one opcode."""

    name: str
    fields: tuple[Field, ...]

    @property
    def mask(self) -> int:
        """All bits that have a meaning."""
        return sum({1 << bit for field in self.fields for bit in range(field.low, field.low + field.width)})


class Command(Struct, frozen=True):
    """One command: where it is (in bytes from the start of the stream), its words, and what they say.

    `opcode` has 0x4000 added where the command has a `payload`; `fields` is in the order of Vela's disassembly.
    """

    offset: int
    name: str
    opcode: int
    parameter: int
    payload: int | None
    fields: Mapping[str, Value]

    @property
    def is_operation(self) -> bool:
        """Whether it starts something; all others set state."""
        return self.name.startswith("NPU_OP_")


def commands(program: Program) -> Iterator[Command]:
    """The commands of a stream, in order.

    Raises:
        SimulatorError: a command, or the value of a field, that its family does not have; or a cut stream.
    """
    family = program.config.family
    known = KINDS[family]
    masks = {opcode: kind.mask for opcode, kind in known.items()}
    words = program.words.tolist()
    at = 0
    while at < len(words):
        word, offset = words[at], 4 * at
        opcode, parameter = word & 0xFFFF, word >> 16
        kind = known.get(opcode)
        if kind is None:
            raise SimulatorError(f"command {opcode:#06x} at byte {offset:#x} is not known of an {family}")
        payload: int | None = None
        bits = parameter
        if opcode & _PAYLOAD:
            if at + 1 == len(words):
                raise SimulatorError(f"the stream ends in the middle of {kind.name} at byte {offset:#x}")
            payload = words[at + 1]
            bits = payload | parameter << 32
        if bits & ~masks[opcode]:
            unknown = bits & ~masks[opcode]
            raise SimulatorError(f"{kind.name} at byte {offset:#x} sets bits that are not known: {unknown:#x}")
        yield Command(offset, kind.name, opcode, parameter, payload, _read(kind, bits, offset))
        at += 1 if payload is None else 2


def _read(kind: Kind, bits: int, offset: int) -> Mapping[str, Value]:
    fields = {}
    for field in kind.fields:
        value = field.read(bits)
        if value is None:
            number = bits >> field.low & (1 << field.width) - 1
            raise SimulatorError(f"{kind.name} at byte {offset:#x} has an unknown {field.name}: {number}")
        fields[field.name] = value
    return fields


def _names(*names: str, **others: int) -> Mapping[int, str]:
    """Numbers from 0 for the names, and those that are said for the others."""
    return MappingProxyType({**dict(enumerate(names)), **{number: name for name, number in others.items()}})


_TYPE = Field("activation_type", 0, 1, _names("unsigned", "signed"))
_IFM_WIDTH = Field("activation_precision", 2, 2, _names("b8", "b16", "b32", "b64"))
_OFM_WIDTH = Field("activation_precision", 1, 2, _names("b8", "b16", "b32", "b64"))
_FORMAT = Field("activation_format", 6, 2, _names("nhwc", "nhcwb16"))
_SCALE_MODE = Field("scale_mode", 8, 1, _names("per_channel", "global"))
_STORAGE = Field("activation_storage", 14, 2, _names("tile2x2", "tile3x1", "chained", "none"))
_ROUND = Field("round_mode", 14, 2, _names("dbl", "truncate", "natural"))
_REGION = Field("region", 0, 3)
_REGION_MODE = Field("region_mode", 8, 1, _names("external", "internal"))
_STRIDE_MODE = Field("stride_mode", 9, 2, _names("d1", "d2", "d3"))
_INDEX_MODE = Field("idx_mode", 11, 1, _names("disabled", "enabled"))
_ADDRESS, _LENGTH = Field("address", 0, 40), Field("length", 0, 40)
_STRIDE = Field("stride", 0, 40, None, True)
_SHIFT, _SCALE = Field("shift", 32, 6), Field("scale", 0, 32)
_DOUBLE = Field("dbl_rnd", 38, 5)
_ZERO_POINT = Field("zero_point", 0, 16, None, True)
_BOUNDARY = Field("clip_boundary", 0, 16, None, True)
_IFM_ROUND = Field("round_mode", 45, 3, _names("double_symmetric", "natural"))
_OFM_ROUND = Field(
    "round_mode", 45, 3,
    _names("double_symmetric", "natural", "double_asymmetric", "symmetric", "truncate_to_zero", "truncate_to_lower"),
)  # fmt: skip
_KERNEL_STRIDE = (
    Field("stride_x_lsb", 0, 1),
    Field("stride_y_lsb", 1, 1),
    Field("weight_order", 2, 1, _names("depth_first", "part_kernel_first")),
    Field("dilation_x", 3, 1, _names("none", "x2")),
    Field("dilation_y", 4, 1, _names("none", "x2")),
    Field("decomposition", 5, 1, _names("d8x8", "d4x4")),
    Field("stride_x_msb", 6, 3),
    Field("stride_y_msb", 9, 3),
)
_BROADCAST = (
    Field("broadcast_h", 0, 1, _names("disable", "enable")),
    Field("broadcast_w", 1, 1, _names("disable", "enable")),
    Field("broadcast_c", 2, 1, _names("disable", "enable")),
    Field("operand_order", 6, 1, _names("order_b", "order_a")),
    Field("broadcast_constant", 7, 1, _names("disable", "enable")),
)
_BROADCAST_U85 = Field("broadcast_mode", 0, 4, _names("none", "h", "w", "hw", "c", "ch", "cw", "cwh", "scalar"))
_ELEMENTWISE = ("mul", "add", "sub", "min", "max", "lrelu", "abs", "clz", "shr", "shl")
_ELEMENTWISE_U85 = {
    "lsr": 10, "div": 11, "cmp_eq": 16, "cmp_ne": 17, "cmp_ge": 18, "cmp_gt": 19,
    "and": 33, "or": 34, "xor": 35, "not": 36, "and_not": 42,
}  # fmt: skip
_POOLING = ("max", "average", "reduce_sum")
_TABLES = {f"table_{number}": 16 + number for number in range(8)}
_ACTIVATION = (
    Field("activation_function", 0, 5, _names("relu", tanh=3, sigmoid=4, **_TABLES)),
    Field("activation_clip_range", 12, 3, _names("ofm_precision", force_uint8=2, force_int8=3, force_int16=5)),
)
_FUNCTIONS_U85 = {
    "lut_s8_s8": 4, "lut_s8_s16": 5, "lut_s8_s32": 7, "lut_s16_s16": 8, "lut_s16_s32": 9, "lut_tanh": 10,
    "lut_sigmoid": 11,
}  # fmt: skip
_ACTIVATION_U85 = (
    Field("activation_function", 0, 4, _names("lut_none", "lut_u8_u8", **_FUNCTIONS_U85)),
    Field("table", 5, 3),
    Field("activation_clip_range", 12, 1, _names("b16", "none")),
)
_ACCUMULATOR_U85 = (
    Field("acc_format", 0, 1, _names("i32", "i48")),
    Field("acc_input", 4, 2, _names("reset", "keep", "ifm2")),
    Field("acc_output", 6, 1, _names("enable", "disable")),
    Field("microblock", 8, 3, _names("u1x1", "u1x2", "u1x4", "u2x2", "u2x4", "u4x4")),
)
_RESIZE_STEP = (
    Field("one_step_int", 32, 4),
    Field("blk_step_int", 36, 12),
    Field("one_step_mod", 0, 16),
    Field("blk_step_mod", 16, 16),
)


def _feature_map(name: str, small: int, large: int, low: int) -> dict[int, Kind]:
    """What IFM, IFM2 and OFM have alike: tiles, region, addresses and strides."""
    kinds = {
        small + low: Kind(f"NPU_SET_{name}_WIDTH0_M1", (Field("width_m1"),)),
        small + low + 1: Kind(f"NPU_SET_{name}_HEIGHT0_M1", (Field("height_m1"),)),
        small + low + 2: Kind(f"NPU_SET_{name}_HEIGHT1_M1", (Field("height_m1"),)),
        small + 0xF: Kind(f"NPU_SET_{name}_REGION", (_REGION,)),
    }
    for tile in range(4):
        kinds[_PAYLOAD + large + tile] = Kind(f"NPU_SET_{name}_BASE{tile}", (_ADDRESS,))
    for number, axis in enumerate("XYC"):
        kinds[_PAYLOAD + large + 4 + number] = Kind(f"NPU_SET_{name}_STRIDE_{axis}", (_STRIDE,))
    return kinds


_ALL = {
    **_feature_map("IFM", 0x100, 0x00, 0xA), **_feature_map("OFM", 0x110, 0x10, 0xA),
    **_feature_map("IFM2", 0x180, 0x80, 0xA),
    0x000: Kind("NPU_OP_STOP", (Field("mask"),)),
    0x001: Kind("NPU_OP_IRQ", (Field("mask"),)),
    0x003: Kind("NPU_OP_DEPTHWISE", ()),
    0x010: Kind("NPU_OP_DMA_START", ()),
    0x011: Kind("NPU_OP_DMA_WAIT", (Field("k"),)),
    0x012: Kind("NPU_OP_KERNEL_WAIT", (Field("n"),)),
    0x013: Kind("NPU_OP_PMU_MASK", (Field("enable"),)),
    0x100: Kind("NPU_SET_IFM_PAD_TOP", (Field("pad"),)),
    0x101: Kind("NPU_SET_IFM_PAD_LEFT", (Field("pad"),)),
    0x102: Kind("NPU_SET_IFM_PAD_RIGHT", (Field("pad"),)),
    0x103: Kind("NPU_SET_IFM_PAD_BOTTOM", (Field("pad"),)),
    0x104: Kind("NPU_SET_IFM_DEPTH_M1", (Field("depth_m1"),)),
    0x107: Kind("NPU_SET_IFM_UPSCALE", (Field("mode", 0, 2, _names("none", "nearest", "zeros")),)),
    0x109: Kind("NPU_SET_IFM_ZERO_POINT", (_ZERO_POINT,)),
    0x111: Kind("NPU_SET_OFM_WIDTH_M1", (Field("width_m1"),)),
    0x112: Kind("NPU_SET_OFM_HEIGHT_M1", (Field("height_m1"),)),
    0x113: Kind("NPU_SET_OFM_DEPTH_M1", (Field("depth_m1"),)),
    0x115: Kind("NPU_SET_OFM_BLK_WIDTH_M1", (Field("width_m1"),)),
    0x116: Kind("NPU_SET_OFM_BLK_HEIGHT_M1", (Field("height_m1"),)),
    0x117: Kind("NPU_SET_OFM_BLK_DEPTH_M1", (Field("depth_m1"),)),
    0x118: Kind("NPU_SET_OFM_ZERO_POINT", (_ZERO_POINT,)),
    0x120: Kind("NPU_SET_KERNEL_WIDTH_M1", (Field("width_m1"),)),
    0x121: Kind("NPU_SET_KERNEL_HEIGHT_M1", (Field("height_m1"),)),
    0x122: Kind("NPU_SET_KERNEL_STRIDE", _KERNEL_STRIDE),
    0x126: Kind("NPU_SET_ACTIVATION_MIN", (_BOUNDARY,)),
    0x127: Kind("NPU_SET_ACTIVATION_MAX", (_BOUNDARY,)),
    0x128: Kind("NPU_SET_WEIGHT_REGION", (_REGION,)),
    0x129: Kind("NPU_SET_SCALE_REGION", (_REGION,)),
    0x12F: Kind("NPU_SET_BLOCKDEP", (Field("blockdep"),)),
    0x132: Kind("NPU_SET_DMA0_SIZE0", (Field("size"),)),
    0x133: Kind("NPU_SET_DMA0_SIZE1", (Field("size"),)),
    0x189: Kind("NPU_SET_IFM2_ZERO_POINT", (_ZERO_POINT,)),
    0x4020: Kind("NPU_SET_WEIGHT_BASE", (_ADDRESS,)),
    0x4021: Kind("NPU_SET_WEIGHT_LENGTH", (_LENGTH,)),
    0x4022: Kind("NPU_SET_SCALE_BASE", (_ADDRESS,)),
    0x4023: Kind("NPU_SET_SCALE_LENGTH", (_LENGTH,)),
    0x4030: Kind("NPU_SET_DMA0_SRC", (_ADDRESS,)),
    0x4031: Kind("NPU_SET_DMA0_DST", (_ADDRESS,)),
    0x4032: Kind("NPU_SET_DMA0_LEN", (_LENGTH,)),
}  # fmt: skip
_U55 = {
    **_ALL,
    0x002: Kind("NPU_OP_CONV", ()),
    0x005: Kind("NPU_OP_POOL", (Field("pooling_mode", 0, 3, _names(*_POOLING)),)),
    0x006: Kind("NPU_OP_ELEMENTWISE", (Field("elementwise_mode", 0, 6, _names(*_ELEMENTWISE)),)),
    0x105: Kind("NPU_SET_IFM_PRECISION", (
        _TYPE, _IFM_WIDTH, _FORMAT, Field("scale_mode", 8, 2, _names("opa_opb_16", "opa_32", "opb_32")), _ROUND,
    )),
    0x10D: Kind("NPU_SET_IFM_IB_END", (Field("ib_end"),)),
    0x114: Kind("NPU_SET_OFM_PRECISION", (_TYPE, _OFM_WIDTH, _FORMAT, _SCALE_MODE, _ROUND)),
    0x124: Kind("NPU_SET_ACC_FORMAT", (Field("acc_format", 0, 2, _names("i32", "i40", "f16")),)),
    0x125: Kind("NPU_SET_ACTIVATION", _ACTIVATION),
    0x12D: Kind("NPU_SET_AB_START", (Field("ab_start"),)),
    0x130: Kind("NPU_SET_DMA0_SRC_REGION", (_REGION, _REGION_MODE, _STRIDE_MODE)),
    0x131: Kind("NPU_SET_DMA0_DST_REGION", (_REGION, _REGION_MODE, _STRIDE_MODE)),
    0x180: Kind("NPU_SET_IFM2_BROADCAST", _BROADCAST),
    0x181: Kind("NPU_SET_IFM2_SCALAR", (Field("scalar", 0, 16, None, True),)),
    0x185: Kind("NPU_SET_IFM2_PRECISION", (_TYPE, _IFM_WIDTH, _FORMAT)),
    0x18D: Kind("NPU_SET_IFM2_IB_START", (Field("ib_start"),)),
    0x4024: Kind("NPU_SET_OFM_SCALE", (_SHIFT, _SCALE)),
    0x4025: Kind("NPU_SET_OPA_SCALE", (_SHIFT, _SCALE)),
    0x4026: Kind("NPU_SET_OPB_SCALE", (_SCALE,)),
    0x4033: Kind("NPU_SET_DMA0_SKIP0", (_STRIDE,)),
    0x4034: Kind("NPU_SET_DMA0_SKIP1", (_STRIDE,)),
}  # fmt: skip
_U65 = {
    **_U55,
    0x123: Kind("NPU_SET_PARALLEL_MODE", (Field("parallel_mode", 0, 1, _names("single_core", "dual_core_depth")),)),
    0x4090: Kind("NPU_SET_WEIGHT1_BASE", (_ADDRESS,)),
    0x4091: Kind("NPU_SET_WEIGHT1_LENGTH", (_LENGTH,)),
    0x4092: Kind("NPU_SET_SCALE1_BASE", (_ADDRESS,)),
    0x4093: Kind("NPU_SET_SCALE1_LENGTH", (_LENGTH,)),
}
_U85 = {
    **_ALL,
    0x002: Kind("NPU_OP_CONV", (Field("weights_ifm2", 0, 1),)),
    0x005: Kind("NPU_OP_POOL", (
        Field("pooling_mode", 0, 3, _names(*_POOLING, "sum", "none", "min", "argmax_x", "argmax_y")),
    )),
    0x006: Kind("NPU_OP_ELEMENTWISE", (
        Field("elementwise_mode", 0, 6, _names(*_ELEMENTWISE, **_ELEMENTWISE_U85)),
    )),
    0x007: Kind("NPU_OP_RESIZE", (Field("resize_mode", 0, 2, _names("bilinear", "replicate", "nearest")),)),
    0x105: Kind("NPU_SET_IFM_PRECISION", (_TYPE, _IFM_WIDTH, _FORMAT, _STORAGE)),
    0x108: Kind("NPU_SET_IFM_BROADCAST", (_BROADCAST_U85,)),
    0x114: Kind("NPU_SET_OFM_PRECISION", (
        _TYPE, _OFM_WIDTH, _FORMAT, _SCALE_MODE,
        Field("activation_reverse", 9, 2, _names("none", "h", "w", "c")),
        Field("activation_transpose", 11, 3, _names("hwc", "whc", "hcw", "wch", chw=6, cwh=7)),
        _STORAGE,
    )),
    0x124: Kind("NPU_SET_ACC_FORMAT", _ACCUMULATOR_U85),
    0x125: Kind("NPU_SET_ACTIVATION", _ACTIVATION_U85),
    0x12A: Kind("NPU_SET_RESIZE_X_SCALE_N_M1", (Field("resize_x_scale_n_m1"),)),
    0x12B: Kind("NPU_SET_RESIZE_Y_SCALE_N_M1", (Field("resize_y_scale_n_m1"),)),
    0x12C: Kind("NPU_SET_RESIZE_X_OFFSET", (Field("resize_x_offset", 0, 12, None, True),)),
    0x12D: Kind("NPU_SET_RESIZE_Y_OFFSET", (Field("resize_y_offset", 0, 12, None, True),)),
    0x12E: Kind("NPU_SET_WEIGHT_FORMAT", (
        Field("weight_format", 0, 1, _names("swd", "fwd")),
        Field("weight_sparsity", 4, 1, _names("none", "sparse_2_4")),
    )),
    0x130: Kind("NPU_SET_DMA0_SRC_REGION", (_REGION, _REGION_MODE, _STRIDE_MODE, _INDEX_MODE)),
    0x131: Kind("NPU_SET_DMA0_DST_REGION", (_REGION, _REGION_MODE, _INDEX_MODE)),
    0x134: Kind("NPU_SET_DMA0_IDX_REGION", (_REGION,)),
    0x180: Kind("NPU_SET_IFM2_BROADCAST", (_BROADCAST_U85,)),
    0x185: Kind("NPU_SET_IFM2_PRECISION", (_TYPE, _IFM_WIDTH, _FORMAT, _STORAGE)),
    0x4024: Kind("NPU_SET_OFM_SCALE", (_SHIFT, _DOUBLE, _OFM_ROUND, _SCALE)),
    0x4025: Kind("NPU_SET_IFM_SCALE", (_SHIFT, _DOUBLE, _IFM_ROUND, _SCALE)),
    0x4026: Kind("NPU_SET_IFM2_SCALE", (_SHIFT, _DOUBLE, _IFM_ROUND, _SCALE)),
    0x4027: Kind("NPU_SET_OP_SCALAR", (Field("scalar", 0, 32, None, True),)),
    0x4033: Kind("NPU_SET_DMA0_SRC_STRIDE0", (_STRIDE,)),
    0x4034: Kind("NPU_SET_DMA0_SRC_STRIDE1", (_STRIDE,)),
    0x4035: Kind("NPU_SET_DMA0_DST_STRIDE0", (_STRIDE,)),
    0x4036: Kind("NPU_SET_DMA0_DST_STRIDE1", (_STRIDE,)),
    0x4037: Kind("NPU_SET_DMA0_IDX", (_ADDRESS,)),
    0x4038: Kind("NPU_SET_DMA0_IDX_MAX", (Field("idx_max", 0, 32),)),
    0x4039: Kind("NPU_SET_DMA0_IDX_SKIP1", (_STRIDE,)),
    0x4096: Kind("NPU_SET_RESIZE_X_STEP", _RESIZE_STEP),
    0x4097: Kind("NPU_SET_RESIZE_Y_STEP", _RESIZE_STEP),
    **{
        0x4090 + 2 * (stream - 1) + part: Kind(f"NPU_SET_WEIGHT{stream}_{name}", (field,))
        for stream in (1, 2, 3) for part, (name, field) in enumerate((("BASE", _ADDRESS), ("LENGTH", _LENGTH)))
    },
}  # fmt: skip

KINDS: Mapping[str, Mapping[int, Kind]] = {"ethos-u55": _U55, "ethos-u65": _U65, "ethos-u85": _U85}
"""What each family's opcodes stand for; 0x4000 is added to those of commands with a payload."""
