"""How close a changed model is to the float model, as data."""

from msgspec import Struct


class TensorFidelity(Struct, frozen=True):
    """How close one tensor is to the float model's, over all held-out samples.

    `relative_error` is ||quantized - float|| / ||float||. `sqnr_db` is the signal-to-quantization-noise ratio,
    None when there is no noise. `top1_agreement` is the share of positions at which the largest element
    along the last axis is the same, over all samples; None where that axis has a single one.
    """

    name: str
    relative_error: float
    sqnr_db: float | None
    top1_agreement: float | None


class Fidelity(Struct, frozen=True):
    """How close a changed model is to the float model, measured in LiteRT on samples that were held out.

    Accuracies are there when the calibration data have labels.
    """

    samples: int
    is_synthetic: bool
    outputs: tuple[TensorFidelity, ...]
    tensors: tuple[TensorFidelity, ...]
    float_accuracy: float | None = None
    quantized_accuracy: float | None = None
