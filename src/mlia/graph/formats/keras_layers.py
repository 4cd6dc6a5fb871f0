"""Which Keras layer becomes which operators: the table of classes, and the one call that applies a layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from mlia.errors import ModelError
from mlia.graph.formats import keras_layers_arithmetic as arithmetic
from mlia.graph.formats import keras_layers_convolution as convolution
from mlia.graph.formats import keras_layers_shape as shape
from mlia.graph.formats.keras_attention import multi_head_attention
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer
from mlia.graph.formats.keras_recurrent import RECURRENT, bidirectional, recurrent, recurrent_of_cell

# What a damaged or unexpected configuration can raise while its options are read.
DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError, RecursionError)

_One: TypeAlias = Callable[[LayerBuilder, Layer, int], int]
_Many: TypeAlias = Callable[[LayerBuilder, Layer, Sequence[int]], int]
_Several: TypeAlias = Callable[[LayerBuilder, Layer, Sequence[int]], list[int]]

# Layers that only act while a model is trained.
IDENTITIES = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout",
    "AlphaDropout", "Identity", "ActivityRegularization", "RandomFlip", "RandomRotation", "RandomZoom",
    "RandomTranslation", "RandomContrast", "RandomBrightness", "RandomHeight", "RandomWidth", "RandomHue",
    "RandomSaturation", "RandomGrayscale", "RandomPosterization", "RandomShear", "RandomPerspective", "RandomErasing",
    "RandomSharpness", "RandomColorDegeneration", "RandomColorJitter", "RandomGaussianBlur", "RandomElasticTransform",
    "RandomInvert", "MixUp", "CutMix",
)  # fmt: skip


def _time_distributed(net: LayerBuilder, layer: Layer, x: int) -> int:
    """TimeDistributed: the time steps become part of the batch, and come back."""
    batch, steps, *rest = net.shape(x)
    wrapped = layer.config["layer"]
    inner = layer.part(
        f"{layer.name}/{wrapped['config']['name']}", wrapped["class_name"], wrapped["config"], layer.weights
    )
    y = net.reshape(x, (batch * steps, *rest), f"{layer.name}/fold", extra=True)
    (y, *_) = _apply(net, inner, [y])
    return net.reshape(y, (batch, steps, *net.shape(y)[1:]), layer.name, extra=True)


_ONE: Mapping[str, _One] = {
    "Dense": convolution.dense,
    "Conv1D": convolution.convolution(1),
    "Conv2D": convolution.convolution(2),
    "DepthwiseConv1D": convolution.depthwise(1),
    "DepthwiseConv2D": convolution.depthwise(2),
    "SeparableConv1D": convolution.separable(1),
    "SeparableConv2D": convolution.separable(2),
    "Conv1DTranspose": convolution.transposed(1),
    "Conv2DTranspose": convolution.transposed(2),
    "BatchNormalization": arithmetic.batch_normalization,
    "BatchNormalizationV1": arithmetic.batch_normalization,
    "LayerNormalization": arithmetic.layer_normalization,
    "Rescaling": arithmetic.rescaling,
    "Normalization": arithmetic.normalization,
    "MaxPooling1D": shape.pooling("MAX_POOL_2D", 1),
    "MaxPooling2D": shape.pooling("MAX_POOL_2D", 2),
    "AveragePooling1D": shape.pooling("AVERAGE_POOL_2D", 1),
    "AveragePooling2D": shape.pooling("AVERAGE_POOL_2D", 2),
    "GlobalAveragePooling1D": shape.global_pooling("MEAN", 1),
    "GlobalAveragePooling2D": shape.global_pooling("MEAN", 2),
    "GlobalMaxPooling1D": shape.global_pooling("REDUCE_MAX", 1),
    "GlobalMaxPooling2D": shape.global_pooling("REDUCE_MAX", 2),
    "ZeroPadding1D": shape.zero_padding(1),
    "ZeroPadding2D": shape.zero_padding(2),
    "Cropping1D": shape.cropping(1),
    "Cropping2D": shape.cropping(2),
    "UpSampling1D": shape.up_sampling(1),
    "UpSampling2D": shape.up_sampling(2),
    "Resizing": shape.resizing,
    "Flatten": shape.flatten,
    "Reshape": shape.reshape,
    "Permute": shape.permute,
    "RepeatVector": shape.repeat_vector,
    "Embedding": shape.embedding,
    "Activation": arithmetic.activation_layer,
    "ReLU": arithmetic.relu,
    "LeakyReLU": arithmetic.leaky,
    "PReLU": arithmetic.prelu,
    "ELU": arithmetic.elu_layer,
    "Softmax": arithmetic.softmax_layer,
    "TimeDistributed": _time_distributed,
}

_MANY: Mapping[str, _Many] = {
    "Add": arithmetic.merging("ADD"),
    "Subtract": arithmetic.merging("SUB"),
    "Multiply": arithmetic.merging("MUL"),
    "Maximum": arithmetic.merging("MAXIMUM"),
    "Minimum": arithmetic.merging("MINIMUM"),
    "Average": arithmetic.average,
    "Concatenate": arithmetic.concatenate,
    "Dot": arithmetic.dot,
    "MultiHeadAttention": multi_head_attention,
}

# What takes its state as further inputs, and gives it as further outputs.
_SEVERAL: Mapping[str, _Several] = {
    "Bidirectional": bidirectional,
    "RNN": recurrent_of_cell,
    **dict.fromkeys(RECURRENT, recurrent),
}


def apply_layer(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> list[int]:
    """Add the operators of one call of a layer, and return its outputs.

    Raises:
        ModelError: the layer is unknown, damaged, or does what TFLite cannot say.
    """
    try:
        return _apply(net, layer, inputs)
    except DAMAGE as error:
        layer.refuse(f"its configuration or its weights are damaged: {what_is_damaged(error)}")
    except ModelError as error:
        if str(error).startswith("cannot read the layer"):
            raise
        layer.refuse(str(error))


def what_is_damaged(error: Exception) -> str:
    """What one of DAMAGE means; its own words are Python's, for programmers."""
    match error:
        case KeyError():
            return f"there is no {error}"
        case TypeError() | AttributeError():
            return "a value is of another kind than it has to be"
        case IndexError():
            return "a list is shorter than it has to be"
        case OverflowError() | ZeroDivisionError():
            return "a number is beyond what can be computed"
        case RecursionError():
            return "it is nested too deeply"
    return "a value is none that it can have, or does not fit the others"


def _apply(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> list[int]:
    _check_types(layer)
    with net.call(layer.name):
        if layer.kind in _SEVERAL and inputs:
            return _SEVERAL[layer.kind](net, layer, inputs)
        return [_applied(net, layer, inputs)]


def _applied(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> int:
    if layer.kind in _MANY:
        if not inputs:
            layer.refuse("it has no inputs")
        return _MANY[layer.kind](net, layer, inputs)
    if len(inputs) != 1:
        known = layer.kind in _ONE or layer.kind in IDENTITIES
        layer.refuse(f"it has {len(inputs)} inputs instead of one" if known else _unknown(layer))
    if layer.kind in IDENTITIES:
        return inputs[0]
    if layer.kind not in _ONE:
        layer.refuse(_unknown(layer))
    return _ONE[layer.kind](net, layer, inputs[0])


def _unknown(layer: Layer) -> str:
    if layer.kind == "Lambda":
        return "it holds Python code, which is never run from a model file"
    return "this class is not known"


def _check_types(layer: Layer) -> None:
    """Layers compute in float32 here; what is stored for float16 or float64 is nearly that, the rest is not."""
    policy = layer.config.get("dtype")
    if isinstance(policy, Mapping):
        policy = policy.get("config", {}).get("name")
    if isinstance(policy, str) and "int" in policy and layer.kind not in (*IDENTITIES, "Embedding"):
        layer.refuse(f"it computes in {policy}")
