"""What a model is: tensors, operators and the subgraphs they form. Frozen data, no I/O."""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

InputShapes: TypeAlias = Mapping[str, tuple[int, ...]]  # by the input's name; "" for the only one
# Operators that call others or keep state: needed even when nothing reads their outputs.
ACTING = ("WHILE", "IF", "CALL", "CALL_ONCE", "ASSIGN_VARIABLE", "VAR_HANDLE", "CUSTOM")
OptionValue: TypeAlias = "bool | int | float | str | tuple[int | float, ...] | None"

COMPILED_OPERATOR = "ethos-u"  # the custom code that Vela gives what it compiled


class Quantization(Struct, frozen=True):
    """Affine quantization: real = scale * (stored - zero_point), per tensor or along `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


class Tensor(Struct, frozen=True):
    """A tensor of a subgraph.

    `shape_signature` has -1 where the size is only known at run time and is empty when nothing is.
    `data` is the constant's bytes, a view of the file, and empty when the tensor is computed. What the file stores
    sparse (`is_sparse`) is dense here. With `has_rank` the file vouches that a shape without sizes is a scalar's, and
    not left out; few files say so.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: memoryview = memoryview(b"")
    shape_signature: tuple[int, ...] = ()
    is_variable: bool = False
    is_sparse: bool = False
    has_rank: bool = False

    @property
    def is_constant(self) -> bool:
        return len(self.data) > 0

    @property
    def is_dynamic(self) -> bool:
        return -1 in self.shape_signature

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class Operator(Struct, frozen=True):
    """One operator. `kind` is TFLite's name (CONV_2D); an input of -1 is an optional one left out.

    `options_table` names the schema table that `options` was read from.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, OptionValue] = {}
    options_table: str = ""
    version: int = 1
    custom_code: str = ""
    custom_options: memoryview = memoryview(b"")
    intermediates: tuple[int, ...] = ()

    def number(self, option: str, default: int = 0) -> int:
        """An integer option, or `default` where this kind of operator does not have it."""
        value = self.options.get(option, default)
        return int(value) if isinstance(value, int | float) else default

    @property
    def called(self) -> tuple[int, ...]:
        """The subgraphs that it calls, by number: its options that name some."""
        found: list[int] = []
        for option, value in self.options.items():
            if "subgraph" in option:
                found += map(int, value) if isinstance(value, tuple) else [self.number(option, -1)]
        return tuple(found)


class Subgraph(Struct, frozen=True):
    """Operators in execution order and the tensors they read and write, by index."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def tensor(self, index: int) -> Tensor | None:
        """The tensor with that index; None for an optional input left out."""
        return self.tensors[index] if index >= 0 else None

    def needed_operators(self) -> set[int]:
        """Indexes of the operators that the outputs depend on, or that act beyond their outputs."""
        wanted = set(self.outputs)
        needed = set()
        for operator in reversed(self.operators):
            if not operator.outputs or wanted & {*operator.outputs} or operator.kind in ACTING:
                needed.add(operator.index)
                wanted |= {*operator.inputs}
        return needed

    def operator_name(self, operator: Operator) -> str:
        """The name of the first output, which is what TFLite calls an operator by, or kind and index."""
        name = self.tensors[operator.outputs[0]].name if operator.outputs else ""
        return name or f"{operator.kind}#{operator.index}"


class Signature(Struct, frozen=True):
    """A named entry point: the user's names for inputs and outputs, to tensor indexes."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


class Provenance(Struct, frozen=True):
    """Where a graph comes from: the user's format, how it was read, and what that added ("2 TRANSPOSE")."""

    format: str = "TFLite"
    route: str = "read as it is"
    added: tuple[str, ...] = ()


class Graph(Struct, frozen=True):
    """A model. The first subgraph is the one that is run; `content` is the TFLite file it came from."""

    subgraphs: tuple[Subgraph, ...]
    description: str = ""
    metadata: Mapping[str, memoryview] = {}
    signatures: tuple[Signature, ...] = ()
    content: memoryview = memoryview(b"")
    provenance: Provenance = Provenance()

    @property
    def file(self) -> bytes:
        """`content` as bytes; not a copy where it is the whole of a file that was read."""
        whole = self.content.obj
        return whole if isinstance(whole, bytes) and len(whole) == self.content.nbytes else bytes(self.content)

    @property
    def main(self) -> Subgraph:
        return self.subgraphs[0]

    @property
    def is_tosa(self) -> bool:
        """Whether the operators are TOSA's, which have the same names in part, and other inputs."""
        return self.provenance.format.startswith("TOSA")

    @property
    def is_compiled(self) -> bool:
        """Whether the model is what Vela makes, rather than what it takes."""
        return any(each.custom_code == COMPILED_OPERATOR for subgraph in self.subgraphs for each in subgraph.operators)

    def called_subgraphs(self) -> tuple[Subgraph, ...]:
        """The subgraphs that may run: the main one, those of signatures, and all that these call."""
        called: set[int] = set()
        waiting = [0, *(signature.subgraph for signature in self.signatures)]
        while waiting:
            number = waiting.pop()
            if number not in called and 0 <= number < len(self.subgraphs):
                called.add(number)
                waiting += (each for operator in self.subgraphs[number].operators for each in operator.called)
        return tuple(self.subgraphs[number] for number in sorted(called))

    @property
    def computes_in_float(self) -> bool:
        """Whether all arithmetic is on float32, so that the model can and must be quantized for an NPU.

        A model with any quantized activation has been quantized already, on purpose and perhaps in part.
        """
        tensors = [
            self.main.tensors[index]
            for operator in self.operators
            for index in operator.outputs
            if operator.kind != "DEQUANTIZE"
        ]
        return any(tensor.dtype == "float32" for tensor in tensors) and not any(
            tensor.quantization for tensor in tensors
        )

    @property
    def operators(self) -> tuple[Operator, ...]:
        return self.main.operators
