"""What an Ethos-U is told to do: operations with their feature maps, weights and arithmetic. Frozen data.

One operation is what one NPU_OP_* command starts, with the state that all commands before it have set. Fields say what
they mean, not how it is encoded: sizes instead of sizes minus one, signed numbers, enumerations.
"""

from enum import StrEnum

from msgspec import Struct


class Rounding(StrEnum):
    """How a product with a scale is rounded (Ethos-U55/U65: OFM precision; Ethos-U85: the scale itself)."""

    DOUBLE = "double"  # gemmlowp: doubling high multiply, half up; then a rounding shift, ties away from zero
    TRUNCATE = "truncate"  # towards zero
    NATURAL = "natural"  # half up
    SYMMETRIC = "symmetric"  # once, ties away from zero (Ethos-U85)
    DOUBLE_ASYMMETRIC = "double asymmetric"  # Ethos-U85
    TO_LOWER = "to lower"  # towards minus infinity (Ethos-U85)


class Scale(Struct, frozen=True):
    """A factor: value * multiplier / 2 ** shift. `double_shift` is Ethos-U85's shift of the first of two roundings."""

    multiplier: int
    shift: int
    rounding: Rounding = Rounding.NATURAL
    double_shift: int = 0


class Tiles(Struct, frozen=True):
    """Where the four tiles of a feature map begin, and how large the first column of them is, in elements.

    Tile 0 is up to `width0` x `height0`, tile 1 right of it (`height1` high), 2 below tile 0, 3 right below.
    """

    bases: tuple[int, int, int, int]
    width0: int
    height0: int
    height1: int


class FeatureMap(Struct, frozen=True):
    """A three-dimensional array in memory, or (storage "scalar" or "chained") none.

    `height` and `width` are in elements as stored, after the upscaling of an input is taken back; strides are in bytes
    and signed. NHCWB16 (`is_brick`) keeps 16 channels together; then `stride_c` is between such bricks.
    """

    region: int
    tiles: Tiles
    height: int
    width: int
    depth: int
    stride_y: int
    stride_x: int
    stride_c: int
    element_bytes: int
    is_signed: bool
    is_brick: bool
    zero_point: int
    storage: str = "memory"  # or "chained", "scalar"
    scalar: int | None = None
    broadcast: tuple[bool, bool, bool] = (False, False, False)  # height, width, channels


class Kernel(Struct, frozen=True):
    """A kernel: taps, stride and dilation as (height, width); the order in which its weights are stored."""

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    is_part_kernel_first: bool
    decomposition: tuple[int, int] = (8, 8)  # taps of one sub-kernel, (height, width)


class Padding(Struct, frozen=True):
    """Rows and columns around an input that contribute zero."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def is_any(self) -> bool:
        return bool(self.top or self.left or self.bottom or self.right)


class Range(Struct, frozen=True):
    """Bytes of a region."""

    region: int
    address: int
    length: int


class WeightFormat(StrEnum):
    """How weights are compressed: STANDARD is entropy coded; FAST is Ethos-U85's other format."""

    STANDARD = "standard"
    FAST = "fast"


TABLE_SIZES = {"s8>s8": 256, "u8>u8": 256, "s8>s32": 1024, "u8>s32": 1024, "s16>s16": 2048}
"""The bytes of a look-up table, by what goes in and what comes out."""


class Activation(Struct, frozen=True):
    """What happens to a result after scaling: clipped to `low`..`high`, and looked up or put through a function.

    `function` is "none", "tanh", "sigmoid" or "table"; `table` is the number of the table, `table_at` where it begins
    in the look-up memory, in bytes, and `table_kind` names input and output, such as "s8>s8", "s8>s32", "s16>s16".
    """

    function: str
    low: int
    high: int
    table: int = 0
    table_at: int = 0
    table_kind: str = ""
    is_clipped: bool = True
    forced_range: str = ""  # "", "uint8", "int8", "int16": the range of what goes into a table


class Block(Struct, frozen=True):
    """The part of an output that is computed at a time, and the units it is made of."""

    height: int
    width: int
    depth: int
    unit_height: int = 0  # of a micro-block; 0 where the family fixes it
    unit_width: int = 0
    unit_depth: int = 0


class Compute(Struct, frozen=True):
    """CONV, DEPTHWISE, POOL, ELEMENTWISE or RESIZE.

    `kind` is "conv", "depthwise", "pool", "elementwise" or "resize"; `mode` names what of it: "" for convolutions;
    "max", "average", "reduce_sum", "sum", "argmax_x", … for pools; "mul", "add", "sub", "min", "max", "lrelu", "abs",
    "clz", "shr", "shl", … for elementwise. `offset` is that of its command in the stream, in bytes.
    `is_matmul` takes the second feature map as weights.
    """

    offset: int
    kind: str
    mode: str
    ifm: FeatureMap
    ofm: FeatureMap
    ofm_rounding: Rounding
    is_ofm_scale_global: bool
    ofm_scale: Scale
    activation: Activation
    block: Block
    kernel: Kernel
    padding: Padding
    upscale: str  # "none", "nearest", "zeros"
    block_dependency: int
    accumulator: str  # "int32", "int40" or "int48", "fp16"
    ifm2: FeatureMap | None = None
    is_reversed: bool = False
    scaled_operand: str = ""  # "", "a", "b": which operand of an addition is scaled (Ethos-U55/U65)
    ifm_scale: Scale | None = None
    ifm2_scale: Scale | None = None
    weights: tuple[Range, ...] = ()
    scales: tuple[Range, ...] = ()
    weight_format: WeightFormat = WeightFormat.STANDARD
    is_sparse: bool = False
    is_matmul: bool = False
    ofm_transpose: str = "hwc"  # the order of the axes in memory: "whc", "hcw", "wch", "chw", "cwh"
    ofm_reverse: str = "none"  # "h", "w", "c": the axis that is written backwards
    accumulator_source: str = "reset"  # what accumulators begin with: zero, "keep", or "ifm2"
    is_output_enabled: bool = True
    resize: "Resize | None" = None
    cores: int = 1  # how many work, each on its part of the output's channels (Ethos-U65-512)


class Resize(Struct, frozen=True):
    """How a RESIZE of Ethos-U85 steps over its input: position = (i * step + offset) / denominator, per axis."""

    mode: str  # "nearest", "bilinear", "replicate"
    height_scale: int
    height_step: tuple[int, int]  # whole, rest
    height_offset: int
    width_scale: int
    width_step: tuple[int, int]
    width_offset: int


class Transfer(Struct, frozen=True):
    """A DMA transfer. `to_table` goes to the look-up memory; 2D and 3D transfers have `rows` and `planes`.

    Ethos-U85's can take the number of each row from `indexes` (int32, one per row, at most `largest_index`): of rows
    of the source (gather) or of the destination (scatter), as `indexed` says.
    """

    offset: int
    source_region: int
    source: int
    destination_region: int
    destination: int
    length: int
    to_table: bool = False
    mode: str = "1d"
    rows: int = 1
    planes: int = 1
    source_strides: tuple[int, int] = (0, 0)
    destination_strides: tuple[int, int] = (0, 0)
    indexed: str = ""  # "", "source", "destination"
    indexes: Range | None = None
    largest_index: int = 0


class Wait(Struct, frozen=True):
    """A wait until at most `outstanding` earlier operations of that kind ("dma", "kernel") are still under way."""

    offset: int
    kind: str
    outstanding: int


class Stop(Struct, frozen=True):
    """The end of the stream."""

    offset: int


Operation = Compute | Transfer | Wait | Stop
