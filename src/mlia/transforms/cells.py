"""Cells of integer LSTMs in scales that LiteRT's kernels have.

A quantizer gives a cell the power of two that its largest number needs. For cells of more than 6 bits before the point
LiteRT's kernels, its reference and the optimized ones alike, are wrong: with LiteRT 2.3 up to 243 of 255 codes from a
calculation in float for a cell of 102, where the NPU is off by 16, and both by 2 once the cell is clipped at 64. That
loses nothing: tanh is 1 there.
"""

from msgspec.structs import replace

from mlia.graph.graph import Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.differences import WIDEST_CELL

_LSTM, _CELL = "UNIDIRECTIONAL_SEQUENCE_LSTM", 19  # the kind, and the place of its cell among the inputs


def with_narrow_cells(content: bytes) -> bytes:
    """The integer model with each cell in WIDEST_CELL or less; the same file where each is."""
    graph = read_tflite(content)
    cells = {each.inputs[_CELL] for each in graph.operators if each.kind == _LSTM and len(each.inputs) > _CELL} - {-1}
    tensors = tuple(_narrowed(tensor) if index in cells else tensor for index, tensor in enumerate(graph.main.tensors))
    if tensors == graph.main.tensors:
        return content
    return write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors), *graph.subgraphs[1:])))


def _narrowed(cell: Tensor) -> Tensor:
    if cell.dtype != "int16" or cell.quantization is None or cell.quantization.scale[0] <= WIDEST_CELL:
        return cell
    return replace(cell, quantization=replace(cell.quantization, scale=(WIDEST_CELL,)))
