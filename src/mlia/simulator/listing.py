"""A command stream as text for people: what each operation does, then the commands that say so."""

from collections.abc import Callable, Iterator

from mlia.simulator.commands import Command, Value, commands
from mlia.simulator.container import Config, Program
from mlia.simulator.decode import operations
from mlia.simulator.operation import Activation, Compute, FeatureMap, Operation, Range, Stop, Transfer, Wait

REGIONS = {0: "read-only", 1: "arena", 2: "fast scratch"}
"""What Vela keeps in each region."""
_NAMES = {"conv": "convolution", "depthwise": "depthwise convolution"}
_VALUES: dict[Value, str] = {
    "b8": "8 bits", "b16": "16 bits", "b32": "32 bits", "b64": "64 bits", "nhwcb16": "bricks of 16 channels",
    "dbl": "double", "swd": "standard", "fwd": "fast", "d1": "1d", "d2": "2d", "d3": "3d",
    "tile2x2": "memory, 2x2 tiles", "tile3x1": "memory, 3x1 tiles", "sparse_2_4": "2 of 4",
    "order_a": "first last", "order_b": "first first",
}  # fmt: skip


def listing(program: Program, origin: Callable[[Operation], str] | None = None) -> Iterator[str]:
    """The lines of a stream: one in words before the commands of each operation, then one per command.

    `origin` may say where an operation comes from; its answer is put behind the line in words.

    Raises:
        SimulatorError: the stream has what is not known.
    """
    decoded = {operation.offset: operation for operation in operations(program)}
    yield f"; {_config(program.config)}, {len(program.words)} words"
    group: list[str] = []
    for command in commands(program):
        operation = decoded.get(command.offset)
        group.append(_line(command, operation))
        if operation is None or isinstance(operation, Wait):
            continue
        note = origin(operation) if origin else ""
        yield ""
        yield f"; {in_words(operation)}" + (f" [{note}]" if note else "")
        yield from group
        group = []
        if isinstance(operation, Stop):
            return
    yield from group


def in_words(operation: Operation) -> str:
    """One line that says what an operation does: sizes are height x width x channels, kernels height x width."""
    if isinstance(operation, Transfer):
        return _transfer(operation)
    if isinstance(operation, Wait):
        kind = "transfers" if operation.kind == "dma" else "operations"
        return f"wait until at most {operation.outstanding} {kind} are under way"
    if isinstance(operation, Stop):
        return "end"
    return _compute(operation)


def _config(config: Config) -> str:
    memory = f", {config.shram_kib} KiB of shared RAM" if config.shram_kib else ""
    return f"{config.name}{memory}" + (f", {config.cores} cores" if config.cores > 1 else "")


def _line(command: Command, operation: Operation | None) -> str:
    said = ", ".join(_field(name, value) for name, value in command.fields.items())
    if isinstance(operation, Wait):
        said = in_words(operation)
    return f"{command.offset:#08x}  {command.name:<28}{said}".rstrip()


def _field(name: str, value: Value) -> str:
    """Sizes are stored less one, which nobody needs to know; addresses are in hexadecimal."""
    if isinstance(value, int):
        if name.endswith("_m1"):
            return f"{name.removesuffix('_m1').replace('_', ' ')} {value + 1}"
        if name == "address":
            return f"{value:#x}"
        if name == "mask":
            return f"{name} {value:#x}"
    said = _VALUES.get(value, str(value).replace("_", " "))
    return f"{name.removeprefix('activation_').replace('_', ' ')} {said}"


def _place(region: int, address: int) -> str:
    return f"{REGIONS.get(region, f'region {region}')} {address:#x}"


def _transfer(transfer: Transfer) -> str:
    target = "table memory" if transfer.to_table else REGIONS.get(transfer.destination_region, "")
    target = f"{target or f'region {transfer.destination_region}'} {transfer.destination:#x}"
    many = transfer.rows * transfer.planes
    rows = f"{many} rows of " if transfer.mode != "1d" or transfer.indexed else ""
    indexes = ""
    if transfer.indexes is not None:
        where = _place(transfer.indexes.region, transfer.indexes.address)
        indexes = f", the {transfer.indexed}'s as the indexes at {where} say"
    source = _place(transfer.source_region, transfer.source)
    return f"copy {rows}{transfer.length} bytes from {source} to {target}{indexes}"


def _compute(operation: Compute) -> str:
    parts = [_name(operation), " of ", _feature_map(operation.ifm)]
    if operation.upscale != "none":
        parts.append(f", upscaled 2x ({operation.upscale})")
    if operation.ifm2 is not None:
        parts += [" and ", _feature_map(operation.ifm2)]
    parts += [" to ", _feature_map(operation.ofm)]
    if operation.ofm_transpose != "hwc":
        parts.append(f", transposed to {operation.ofm_transpose}")
    if operation.ofm_reverse != "none":
        parts.append(f", reversed along {operation.ofm_reverse}")
    if operation.weights:
        parts.append(f"; {_ranges('weights', operation.weights)}")
    if operation.scales:
        parts.append(f"; {_ranges('scales', operation.scales)}")
    return "".join(parts) + _activation(operation.activation)


def _name(operation: Compute) -> str:
    if operation.is_matmul:
        return "matrix multiplication"
    if operation.kind in ("elementwise", "resize"):
        name = f"{'resize ' if operation.kind == 'resize' else ''}{operation.mode}"
        return f"{name} (operands swapped)" if operation.is_reversed else name
    kernel, padding = operation.kernel, operation.padding
    name = _NAMES.get(operation.kind, f"{operation.mode} pool")
    said = [f"{name} {kernel.size[0]}x{kernel.size[1]}"]
    if kernel.stride != (1, 1):
        said.append(f"stride {kernel.stride[0]}x{kernel.stride[1]}")
    if kernel.dilation != (1, 1):
        said.append(f"dilation {kernel.dilation[0]}x{kernel.dilation[1]}")
    if padding.is_any:
        said.append(f"padding {padding.top} {padding.left} {padding.bottom} {padding.right}")
    return ", ".join(said)


def _feature_map(fm: FeatureMap) -> str:
    kind = f"{'int' if fm.is_signed else 'uint'}{8 * fm.element_bytes}"
    if fm.storage == "scalar":
        return f"the {kind} {fm.scalar}"
    size = f"{fm.height}x{fm.width}x{fm.depth} {kind}"
    if fm.storage == "chained":
        return f"{size} (chained {fm.region})"
    if fm.storage != "memory":
        return f"{size} (kept)"
    order = " bricks" if fm.is_brick else ""
    return f"{size}{order} at {_place(fm.region, fm.tiles.bases[0])}"


def _ranges(name: str, ranges: tuple[Range, ...]) -> str:
    size = sum(piece.length for piece in ranges)
    return f"{size} bytes of {name} at {_place(ranges[0].region, ranges[0].address)}"


def _activation(activation: Activation) -> str:
    clip = f"; clipped to {activation.low}..{activation.high}" if activation.is_clipped else ""
    if activation.function == "table":
        return f"{clip}, then table {activation.table} ({activation.table_kind.replace('>', ' to ')})"
    return clip if activation.function == "none" else f"{clip}, then {activation.function}"
