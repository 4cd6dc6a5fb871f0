"""The inputs and the output of an operation: where they are, and sizes that no command says."""

from mlia.errors import SimulatorError
from mlia.simulator.operation import FeatureMap, Kernel, Padding, Tiles
from mlia.simulator.state import State

_BYTES = {"b8": 1, "b16": 2, "b32": 4, "b64": 8}
Size = tuple[int, int, int]


class Operands:
    """The feature maps of one operation.

    Only the output's size is in the stream. That of an input follows from it: what the kernel needs to reach all of
    the output, (output - 1) * stride + kernel, less the padding (INFERRED: agrees with the reference in a fuzz). An
    upscaled input is stored half as large, rounded up. The inputs of an elementwise operation are as large as its
    output, but 1 where they are broadcast.
    """

    def __init__(self, state: State, kind: str, kernel: Kernel, padding: Padding) -> None:
        self._state, self._kind, self._kernel, self._padding = state, kind, kernel, padding
        self._ofm: Size = (
            state.number("OFM_HEIGHT_M1") + 1,
            state.number("OFM_WIDTH_M1") + 1,
            state.number("OFM_DEPTH_M1") + 1,
        )
        self.upscale = str(state.fields("IFM_UPSCALE")["mode"])
        if kind in ("elementwise", "resize") and self.upscale != "none":
            raise SimulatorError(f"{state.user} upscales its input, which is not known of it")

    @property
    def is_reversed(self) -> bool:
        """Whether the second input is the first operand (Ethos-U55 and U65)."""
        return not self._state.is_u85 and self._state.fields("IFM2_BROADCAST")["operand_order"] == "order_a"

    def ofm(self) -> FeatureMap:
        """The output, in its size before it is transposed; its tiles have the size after that."""
        return self._feature_map("OFM", self._ofm)

    def ifm(self) -> FeatureMap:
        """The first input."""
        if self._kind != "elementwise":
            return self._feature_map("IFM", self._filtered())
        broadcast, is_scalar = self._broadcast("IFM") if self._state.is_u85 else ((False,) * 3, False)
        return self._feature_map("IFM", self._shrunk(broadcast), broadcast, is_scalar)

    def ifm2(self, role: str) -> FeatureMap:
        """The second input: of `role` "operand", "matmul" (in place of weights) or "sums" (what sums begin with)."""
        if role == "matmul":
            # Each row of the output has its own matrix of (output channels, input channels).
            return self._feature_map("IFM2", (self._ofm[0], self._ofm[2], self._state.number("IFM_DEPTH_M1") + 1))
        if role == "sums":
            return self._feature_map("IFM2", self._ofm)
        broadcast, is_scalar = self._broadcast("IFM2")
        return self._feature_map("IFM2", self._shrunk(broadcast), broadcast, is_scalar)

    def _filtered(self) -> Size:
        """What a kernel needs, as stored. A resize says it in the registers of a kernel (Regor's generator)."""
        state, kernel, padding = self._state, self._kernel, self._padding
        depth = state.number("IFM_DEPTH_M1") + 1
        if self._kind == "resize":
            return state.number("KERNEL_HEIGHT_M1") + 1, state.number("KERNEL_WIDTH_M1") + 1, depth
        edges = (padding.top + padding.bottom, padding.left + padding.right)
        factor = 1 if self.upscale == "none" else 2
        sizes = []
        for axis in (0, 1):
            reach = (kernel.size[axis] - 1) * kernel.dilation[axis] + 1
            needed = (self._ofm[axis] - 1) * kernel.stride[axis] + reach - edges[axis]
            if needed < 1:
                raise SimulatorError(f"{state.user} has more padding than its kernel reaches")
            sizes.append(-(-needed // factor))
        return sizes[0], sizes[1], depth

    def _shrunk(self, broadcast: tuple[bool, ...]) -> Size:
        height, width, depth = (1 if is_one else size for size, is_one in zip(self._ofm, broadcast, strict=True))
        return height, width, depth

    def _broadcast(self, which: str) -> tuple[tuple[bool, bool, bool], bool]:
        """Along height, width and channels; and whether there is one number in place of an array."""
        fields = self._state.fields(f"{which}_BROADCAST")
        if not self._state.is_u85:
            along = tuple(fields[f"broadcast_{axis}"] == "enable" for axis in "hwc")
            is_scalar = fields["broadcast_constant"] == "enable"
        else:
            mode = str(fields["broadcast_mode"])
            is_scalar = mode == "scalar"
            along = tuple(axis in mode and mode != "none" and not is_scalar for axis in "hwc")
        return ((True, True, True), True) if is_scalar else ((along[0], along[1], along[2]), False)

    def _feature_map(
        self, which: str, size: Size, broadcast: tuple[bool, ...] = (False,) * 3, is_scalar: bool = False
    ) -> FeatureMap:
        state = self._state
        precision = state.fields(f"{which}_PRECISION")
        is_signed = precision["activation_type"] == "signed"
        zero_point = state.number(f"{which}_ZERO_POINT")
        storage = self._storage(which, is_scalar)
        is_stored = storage == "memory"
        return FeatureMap(
            region=0 if storage == "scalar" else state.number(f"{which}_REGION"),
            tiles=self._tiles(which) if is_stored else Tiles((0, 0, 0, 0), size[1], size[0], size[0]),
            height=size[0],
            width=size[1],
            depth=size[2],
            stride_y=state.number(f"{which}_STRIDE_Y") if is_stored else 0,
            stride_x=state.number(f"{which}_STRIDE_X") if is_stored else 0,
            stride_c=state.number(f"{which}_STRIDE_C") if is_stored else 0,
            element_bytes=_BYTES[str(precision["activation_precision"])],
            is_signed=is_signed,
            is_brick=precision["activation_format"] == "nhcwb16",
            zero_point=zero_point if is_signed else zero_point & 0xFFFF,
            storage=storage,
            scalar=self._scalar(is_signed) if storage == "scalar" else None,
            broadcast=(broadcast[0], broadcast[1], broadcast[2]),
        )

    def _storage(self, which: str, is_scalar: bool) -> str:
        mode = str(self._state.fields(f"{which}_PRECISION").get("activation_storage", "tile2x2"))
        if mode == "tile3x1":
            raise SimulatorError(f"{self._state.user} has its {which} in tiles of 3x1, which is not known")
        if self._state.is_u85 and is_scalar != (mode == "none") and which != "OFM":
            raise SimulatorError(f"{self._state.user} has an {which} stored as {mode} that is broadcast otherwise")
        if mode == "none" and which == "OFM":
            return "none"  # sums stay in the accumulators
        return "chained" if mode == "chained" else "scalar" if is_scalar else "memory"

    def _scalar(self, is_signed: bool) -> int:
        """One number for both inputs on Ethos-U85; it has 16 bits on Ethos-U55 and U65."""
        if self._state.is_u85:
            number = self._state.number("OP_SCALAR")
            return number if is_signed else number & 0xFFFFFFFF
        number = self._state.number("IFM2_SCALAR")
        return number if is_signed else number & 0xFFFF

    def _tiles(self, which: str) -> Tiles:
        state = self._state
        first, second, third, fourth = (state.number(f"{which}_BASE{tile}") for tile in range(4))
        return Tiles(
            (first, second, third, fourth),
            state.number(f"{which}_WIDTH0_M1") + 1,
            state.number(f"{which}_HEIGHT0_M1") + 1,
            state.number(f"{which}_HEIGHT1_M1") + 1,
        )
