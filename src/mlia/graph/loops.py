"""How often a WHILE runs, where the file says it: a counter, a step and a limit that are all constants."""

from mlia.graph.graph import Graph, Operator, Subgraph, Tensor

_INTEGERS = ("int32", "int64")


def subgraph_runs(graph: Graph) -> dict[int, int | None]:
    """How often each subgraph runs in one inference, by its index; None where that is not said by constants.

    The condition of a WHILE runs once more than its body. What CALL_ONCE calls is no part of an inference.
    """
    runs: dict[int, int | None] = {0: 1}

    def visit(number: int, times: int | None, above: tuple[int, ...]) -> None:
        subgraph = graph.subgraphs[number]
        for operator in subgraph.operators:
            count = trip_count(graph, subgraph, operator)
            for place, called in enumerate(operator.called if operator.kind != "CALL_ONCE" else ()):
                if called in above or not 0 <= called < len(graph.subgraphs):
                    continue
                here = None if times is None or count is None else times * (count + (place == 0))
                before = runs.get(called, 0)
                runs[called] = None if here is None or before is None else before + here
                visit(called, here, (*above, called))

    visit(0, 1, (0,))
    return runs


def trip_count(graph: Graph, subgraph: Subgraph, loop: Operator) -> int | None:
    """How many times the body of a WHILE runs; None where that is not said by constants.

    Known is what converters make of recurrent layers: the condition is a LESS of a counter against a limit, or several
    of them with LOGICAL_AND; a counter begins with a constant, and the body adds a constant to it. A limit may be
    handed from one run of the body to the next, unchanged.
    """
    parts = tuple(graph.subgraphs[number] for number in loop.called if 0 <= number < len(graph.subgraphs))
    if loop.kind != "WHILE" or len(parts) != 2:
        return None
    condition, body = parts
    sizes = {len(loop.inputs), len(condition.inputs), len(body.inputs), len(body.outputs)}
    if len(sizes) != 1 or len(condition.outputs) != 1:
        return None
    makers = {output: operator for operator in condition.operators for output in operator.outputs}
    pending, counts = [condition.outputs[0]], []
    while pending:
        maker = makers.pop(pending.pop(), None)
        if maker is not None and maker.kind == "LOGICAL_AND":
            pending += maker.inputs
        elif maker is not None and maker.kind == "LESS":
            counts.append(_runs(subgraph, loop, condition, body, maker))
        else:
            return None
    known = [count for count in counts if count is not None]
    return min(known) if len(known) == len(counts) else None


def _runs(subgraph: Subgraph, loop: Operator, condition: Subgraph, body: Subgraph, less: Operator) -> int | None:
    """After how many runs of the body a LESS is false."""
    counter, limit = less.inputs
    if counter not in condition.inputs:
        return None
    place = condition.inputs.index(counter)
    first, step = _number(subgraph, loop.inputs[place]), _step(body, place)
    last = _number(condition, limit)
    if last is None and limit in condition.inputs:
        other = condition.inputs.index(limit)
        last = _number(subgraph, loop.inputs[other]) if body.outputs[other] == body.inputs[other] else None
    if first is None or step is None or last is None or step < 1:
        return None
    return max(0, -(-(last - first) // step))


def _step(body: Subgraph, place: int) -> int | None:
    """What the body adds to the value that it gets and gives at this place."""
    source, result = body.inputs[place], body.outputs[place]
    for operator in body.operators:
        if result in operator.outputs and operator.kind == "ADD" and source in operator.inputs:
            others = [index for index in operator.inputs if index != source]
            return _number(body, others[0]) if len(others) == 1 else None
    return None


def _number(subgraph: Subgraph, index: int) -> int | None:
    tensor: Tensor | None = subgraph.tensor(index)
    if tensor is None or not tensor.is_constant or tensor.dtype not in _INTEGERS or tensor.elements != 1:
        return None
    return int.from_bytes(tensor.data[: 4 if tensor.dtype == "int32" else 8], "little", signed=True)
