"""Shapes that leave much of a MAC array idle."""

from collections import defaultdict
from collections.abc import Iterator

from mlia.advice import Safety
from mlia.results import OperatorCost
from mlia.rules.performance.costs import costliest, identity, main_costs, share
from mlia.rules.phrases import percent, quoted, sizes
from mlia.rules.rule import Case, Finding, Fix, NpuRule, Rule, later, operand, result
from mlia.rules.waiting import COMPUTING
from mlia.transforms.remedies.places import place_of

_BLOCK = 16  # channels
_HALF = 8  # below one block
_FEW = 4  # input channels
_FOLDED = 24  # channels that columns may become
_FOLDINGS = 4  # to try
_LIKELY = (1, 2, 4, 8)
_LARGE = 4  # rows and columns of a pool's window
_LONG = 4  # rows that a sequence must have, at least


class ChannelsPastBlock(NpuRule):
    """A convolution has a few channels more than a multiple of 16, and pays for a whole further block.

    ## Why it matters
    An Ethos-U computes and stores channels in blocks. With 17 channels the second block is nearly empty, but costs as
    much as a full one, once where the channels are written and again where they are read, and twice the memory.

    ## How it is found
    By convolutions that compute 1 to 4 channels more than a multiple of 16 (or 9 or 10 channels), and that are bound by
    arithmetic. They and their readers must take a tenth of the time, and the empty part be a tenth of the channels.

    ## What to do
    Train the model with the multiple below. The one above has room for more channels at about the same cost on
    Ethos-U55; on Ethos-U85 it costs more.

    ## Limits
    The remedy cuts the channels with the smallest weights out of the integer model, to measure the time. It does not
    make up for them, so check the accuracy or train again. Channels that reach an output stay.

    ## Source
    Estimated with Vela 5.2, calibrated: four 3x3 convolutions on 64x64 of 17 channels take 3.0 times as long as of 16
    on ethos-u55-128, 1.6 times on ethos-u85-256, and twice the SRAM. With 32 channels they take as long as with 17 on
    ethos-u55-128, and 1.6 times on ethos-u85-256.
    """

    code = "PER002"
    name = "channels-past-block"

    def check(self, case: Case) -> Iterator[Finding]:
        found: dict[int, list[OperatorCost]] = defaultdict(list)
        readers: dict[int, list[OperatorCost]] = defaultdict(list)
        for cost in main_costs(case, "CONV_2D"):
            operator, subgraph = case.operator(cost), case.subgraph(cost)
            before, after = operand(subgraph, operator, 0), result(subgraph, operator)
            if before is None or after is None or not before.shape or not after.shape:
                continue
            if kept_channels(after.shape[-1]) < after.shape[-1] and after.dtype == "int8":
                found[after.shape[-1]].append(cost)
            if kept_channels(before.shape[-1]) < before.shape[-1]:
                readers[before.shape[-1]].append(cost)
        makers = [cost for costs in found.values() for cost in costs]
        counts = [channels for channels in found if readers[channels]]
        paying = {identity(cost): cost for channels in counts for cost in (*found[channels], *readers[channels])}
        if not counts or not any(cost.bound_by in COMPUTING for cost in paying.values()):
            return
        part = share(case, paying.values())
        if part < 0.1:
            return
        said = ", ".join(f"{count} (next to {kept_channels(count)})" for count in sorted(counts)[:3])
        yield Finding(
            tuple(identity(cost) for cost in makers),
            f"channels of {costliest(makers)}: {said}; these and what reads them take {percent(part)} of the time",
            f"Train with {', '.join(str(kept_channels(count)) for count in sorted(counts)[:3])} channels there.",
            (
                Fix(
                    "channels cut to whole blocks",
                    Safety.VALIDATE,
                    later("cutting.with_fewer_channels", kept_channels),
                ),
            ),
            only_if_gain=True,
            at_stake_ms=case.milliseconds(paying),
        )


def kept_channels(count: int) -> int:
    """The multiple below, for counts just above it whose last block is mostly empty; others stay."""
    if _HALF < count <= _HALF + 2:
        return _HALF
    over = count % _BLOCK
    is_wasted = 0 < over <= 4 and (_BLOCK - over) * 10 >= count
    return count - over if count > _BLOCK and is_wasted else count


class FewInputChannels(NpuRule):
    """A convolution reads so few channels that most of the MAC array has nothing to multiply.

    ## Why it matters
    An Ethos-U multiplies 8 or more input channels at a time. The first convolution reads 1 or 3 of them, at full
    resolution, and the rest of the array idles.

    ## How it is found
    By convolutions over at most 4 channels that take 5 % of the time or more.

    ## What to do
    Let neighboring columns be channels: a row of 40 columns of 1 channel is, in memory, a row of 10 columns of 4. The
    weights are put in other places, with zeros between them, and a RESHAPE that moves nothing gives the old shape back.

    ## Limits
    The weights grow, and most shapes gain nothing: it is advised only where it was faster.

    ## Source
    Estimated with Vela 5.2, calibrated: the NPU's part of TensorFlow's micro_speech gains 30 % on ethos-u55-128 and
    19 % on ethos-u85-256; a convolution of 60 taps over a waveform becomes 8 times faster on ethos-u55-128.
    """

    code = "PER003"
    name = "few-input-channels"

    def check(self, case: Case) -> Iterator[Finding]:
        for cost in main_costs(case, "CONV_2D", "DEPTHWISE_CONV_2D"):
            operator, subgraph = case.operator(cost), case.subgraph(cost)
            before, after = operand(subgraph, operator, 0), result(subgraph, operator)
            weights = operand(subgraph, operator, 1)
            if before is None or after is None or weights is None or {len(before.shape), len(after.shape)} != {4}:
                continue
            most = _FEW if cost.kind == "CONV_2D" else 1
            if before.shape[3] > most or weights.dtype != "int8":
                continue
            part = share(case, [cost])
            is_upright = before.shape[2] == after.shape[2] == 1  # rows follow each other like columns
            side, letter = (1, "h") if is_upright else (2, "w")
            stride = operator.number(f"stride_{letter}", 1)
            widths = _widths(before.shape[side], after.shape[side], stride, before.shape[3])
            folded = "folding.folded_rows" if is_upright else "folding.folded_columns"
            place = place_of(subgraph, operator)
            if part < 0.05 or not widths or place is None:
                continue
            used = f", {percent(cost.mac_utilization)} of the MACs in use" if cost.mac_utilization is not None else ""
            yield Finding(
                (identity(cost),),
                f"{quoted(cost.name)} reads {sizes(before.shape)} in {percent(part)} of the time{used}",
                "Let neighboring columns be channels: the same numbers, with the weights in other places.",
                tuple(Fix(_folded_text(width), Safety.LOSSLESS, later(folded, place, width)) for width in widths),
                only_if_gain=True,
                at_stake_ms=case.milliseconds([identity(cost)]),
            )


def _widths(before: int, after: int, stride: int, channels: int) -> list[int]:
    """How many output columns to compute at a time, of what divides the width and leaves few channels."""
    found = [
        outputs
        for outputs in range(1, min(after, _FOLDED) + 1)
        if after % outputs == 0 and _columns(before, after, stride, outputs) * channels <= _FOLDED
        if before % _columns(before, after, stride, outputs) == 0 and _columns(before, after, stride, outputs) > 1
    ]
    return sorted(sorted(found, key=lambda outputs: (outputs not in _LIKELY, outputs))[:_FOLDINGS])


def _columns(before: int, after: int, stride: int, outputs: int) -> int:
    return max(before if outputs == after else outputs * stride, 1)


def _folded_text(width: int) -> str:
    return f"{width} output columns at a time" if width > 1 else "strides folded into channels"


class SequenceAlongHeight(NpuRule):
    """One-dimensional convolutions run along the height of tensors that are one column wide.

    ## Why it matters
    An Ethos-U computes several columns of an output at a time. With a width of 1 all but one of them idle.

    ## How it is found
    By convolutions from (batch, time, 1, channels) to at least 4 rows, which take a tenth of the time together.

    ## What to do
    Lay the time along the width: (batch, 1, time, channels) is the same in memory, so that a RESHAPE costs nothing and
    only the weights' axes change their order.

    ## Limits
    Where a model leaves such tensors often, more RESHAPEs are needed and may cost what is gained.

    ## Source
    Estimated with Vela 5.2: three 9x1 convolutions with depthwise ones between gain 24 % on ethos-u55-128, 30 % on
    ethos-u65-512, 27 % on ethos-u85-256.
    """

    code = "PER004"
    name = "sequence-along-height"

    def check(self, case: Case) -> Iterator[Finding]:
        found = []
        for cost in main_costs(case, "CONV_2D", "DEPTHWISE_CONV_2D"):
            operator, subgraph = case.operator(cost), case.subgraph(cost)
            sides = [operand(subgraph, operator, 0), result(subgraph, operator)]
            if all(side is not None and len(side.shape) == 4 and side.shape[2] == 1 for side in sides):
                after = sides[1]
                if after is not None and after.shape[1] >= _LONG and cost.bound_by in COMPUTING:
                    found.append(cost)
        part = share(case, found)
        if not found or part < 0.1:
            return
        first = result(case.subgraph(found[0]), case.operator(found[0]))
        shape = sizes(first.shape) if first is not None else ""
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{costliest(found)}, as {shape}, take {percent(part)} of the time, one column at a time",
            "Lay the time along the width: (batch, 1, time, channels).",
            (Fix("time along the width", Safety.LOSSLESS, later("rows.rows_instead_of_columns")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class MeanOverMap(NpuRule):
    """A MEAN over height and width computes a global average in wide numbers, slower than a pool would.

    ## Why it matters
    The compiler makes a depthwise convolution with 32-bit results and a multiplication of MEAN; AVERAGE_POOL_2D is one
    step. Keras's GlobalAveragePooling2D and PyTorch's AdaptiveAvgPool2d become MEAN.

    ## How it is found
    By int8 MEANs over axes 1 and 2 that take 2 % of the time or more.

    ## What to do
    Use AveragePooling2D with the size of the feature map in the place of the global average.

    ## Limits
    The pool rounds in another place, so that a code may differ by one (two where the scale changes too).

    ## Source
    Estimated with Vela 5.2 on ethos-u55-128, 64 channels: over 8x8, 6148 cycles for MEAN and 3160 for AVERAGE_POOL_2D;
    over 16x16, 22536 and 10968.
    """

    code = "PER005"
    name = "mean-over-map"

    def check(self, case: Case) -> Iterator[Finding]:
        found = []
        for cost in main_costs(case, "MEAN"):
            operator, subgraph = case.operator(cost), case.subgraph(cost)
            before, axes = operand(subgraph, operator, 0), operand(subgraph, operator, 1)
            if before is None or axes is None or axes.dtype != "int32" or before.dtype != "int8":
                continue
            numbers = memoryview(bytes(axes.data[: len(axes.data) // 4 * 4])).cast("i").tolist()[:5]
            if len(before.shape) == 4 and {axis % 4 for axis in numbers} == {1, 2}:
                found.append((cost, before))
        costs = [cost for cost, _ in found]
        part = share(case, costs)
        if not costs or part < 0.02:
            return
        yield Finding(
            tuple(identity(cost) for cost in costs),
            f"{costliest(costs)} average over {sizes(found[0][1].shape)} in {percent(part)} of the time",
            "Use an average pool of the size of the feature map.",
            (Fix("AVERAGE_POOL_2D for MEAN", Safety.VALIDATE, later("averages.means_as_pools")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in costs]),
        )


class SquareMaxPool(NpuRule):
    """A MAX_POOL_2D compares all of a large square, where rows and then columns would do.

    ## Why it matters
    The largest number of k x k ones takes k * k comparisons each; along the height and then along the width it takes
    2 * k. Spatial pyramid pooling (SPPF in YOLO) has windows of 5, 9 and 13.

    ## How it is found
    By MAX_POOL_2Ds of at least 4 x 4 that take 2 % of the time or more.

    ## What to do
    Pool with (k, 1) and then with (1, k): the same numbers, bit by bit.

    ## Limits
    There is a tensor more between the two. Windows of 2x2 and 3x3 gain nothing.

    ## Source
    Estimated with Vela 5.2: a 1x1 convolution and a window of 13x13 over 32x32x32 take 1,414,408 cycles on
    ethos-u55-128, and 233,152 with the window in turn; with 5x5, 225,304 and 101,312.
    """

    code = "PER006"
    name = "square-max-pool"

    def check(self, case: Case) -> Iterator[Finding]:
        found = []
        for cost in main_costs(case, "MAX_POOL_2D"):
            operator = case.operator(cost)
            if min(operator.number("filter_height"), operator.number("filter_width")) >= _LARGE:
                found.append(cost)
        part = share(case, found)
        if not found or part < 0.02:
            return
        largest = case.operator(found[0])
        window = f"{largest.number('filter_height')}x{largest.number('filter_width')}"
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"windows of {window} in {percent(part)} of the time: {costliest(found)}",
            "Pool along the height, then along the width.",
            (Fix("rows, then columns", Safety.LOSSLESS, later("maxima.maxima_in_turn")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


RULES: tuple[type[Rule], ...] = (
    ChannelsPastBlock,
    FewInputChannels,
    SequenceAlongHeight,
    MeanOverMap,
    SquareMaxPool,
)
