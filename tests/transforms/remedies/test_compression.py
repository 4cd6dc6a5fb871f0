import numpy
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch, case_of, fixed
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.compression import (
    clustered,
    compressed,
    one_scale_for_dense,
    pruned,
    pruned_and_clustered,
    two_of_four,
)
from tests.rules.cases.optimization import dense_network, scale_per_row, without_weights


def network(channels: int = 7) -> Graph:
    """A convolution that reads the input, a depthwise one, and two with odd numbers of channels."""
    net = IntegerSketch("odd")
    x = net.image("x", (1, 8, 8, 3))
    x = net.filter("CONV_2D", x, filters=channels, name="first")
    x = net.filter("DEPTHWISE_CONV_2D", x, filters=channels, name="depthwise")
    x = net.filter("CONV_2D", x, filters=45, name="second")
    x = net.filter("CONV_2D", x, filters=5, kernel=(1, 1), name="third")
    return read_tflite(write_tflite(net.graph([x])))


def codes(graph: Graph, name: str) -> Array:
    tensor = next(tensor for tensor in graph.main.tensors if tensor.name == f"{name}/weights")
    return numpy.frombuffer(tensor.data, numpy.int8).reshape(tensor.shape)


def test_the_smallest_weights_go_and_the_others_stay() -> None:
    before = network()
    after = pruned(before)
    old, new = codes(before, "second"), codes(after, "second")
    gone = (new == 0) & (old != 0)
    assert numpy.mean(new == 0) == pytest.approx(0.6, abs=0.01)
    assert numpy.abs(old[gone]).max() <= numpy.abs(new[new != 0]).min()
    assert (new[new != 0] == old[new != 0]).all()
    assert (codes(after, "first") == codes(before, "first")).all()
    assert (codes(after, "depthwise") == codes(before, "depthwise")).all()


def test_scales_decide_what_is_small() -> None:
    before = network()

    def scaled(tensor: Tensor) -> Tensor:
        if tensor.name != "second/weights":
            return tensor
        assert tensor.quantization is not None
        scale = tuple(1e-9 if channel < 20 else 0.01 for channel in range(45))
        return replace(tensor, quantization=replace(tensor.quantization, scale=scale))

    main = replace(before.main, tensors=tuple(scaled(tensor) for tensor in before.main.tensors))
    new = codes(pruned(replace(before, subgraphs=(main,))), "second")
    assert not new[:20].any()


def test_weights_share_few_codes() -> None:
    before = network()
    for after in (clustered(before), pruned_and_clustered(before)):
        for name in ("first", "second", "third"):
            assert len(numpy.unique(codes(after, name))) <= 16
        old, new = codes(before, "second").astype(int), codes(after, "second").astype(int)
        assert numpy.abs(old - new)[new != 0].max() < 16
    assert numpy.mean(codes(pruned_and_clustered(before), "second") == 0) >= 0.6


@pytest.mark.parametrize("clusters", [2, 3, 16, 255])
def test_any_number_of_clusters(clusters: int) -> None:
    before = network()
    after = codes(compressed(before, clusters=clusters), "second")
    assert len(numpy.unique(after)) <= clusters
    if clusters == 255:
        assert numpy.abs(after.astype(int) - codes(before, "second")).max() <= 2


def test_two_of_four_channels_stay() -> None:
    after = codes(two_of_four(network(7)), "second")  # (45, 3, 3, 7)
    assert (numpy.count_nonzero(after[..., :4], axis=-1) <= 2).all()
    assert (numpy.count_nonzero(after[..., 4:], axis=-1) <= 2).all()
    assert numpy.count_nonzero(after) > 0.5 * after.size


def test_models_without_such_weights_are_refused() -> None:
    empty = read_tflite(without_weights())
    for change in (pruned, clustered, pruned_and_clustered, two_of_four):
        with pytest.raises(TransformError, match="no int8 weights"):
            change(empty)
    with pytest.raises(TransformError, match="a scale for each row"):
        one_scale_for_dense(read_tflite(dense_network()))


def run(content: bytes, values: Array) -> Array:
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return result


def test_one_scale_computes_about_the_same_in_fewer_bytes() -> None:
    before = scale_per_row(rows=40, depth=64)
    after = fixed(one_scale_for_dense, before)
    tensor = next(each for each in read_tflite(after).main.tensors if each.name == "dense/weights")
    assert tensor.quantization is not None
    assert len(tensor.quantization.scale) == 1
    random = numpy.random.default_rng(1)
    for _ in range(3):
        values = random.integers(-128, 128, (1, 64)).astype(numpy.int8)
        assert numpy.abs(run(before, values).astype(int) - run(after, values)).max() <= 2


def test_what_they_bring_where_weights_are_waited_for() -> None:
    def time(content: bytes) -> float:
        latency = case_of(content, "ethos-u55-256").performance.known_ms
        assert latency is not None
        return latency

    plain = time(dense_network())
    for change, part in ((pruned, 0.7), (clustered, 0.7), (pruned_and_clustered, 0.5)):
        assert time(fixed(change, dense_network())) < part * plain
    assert time(fixed(one_scale_for_dense, scale_per_row())) < 0.8 * time(scale_per_row())
