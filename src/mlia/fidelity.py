"""How close a changed model is to the float model, as data."""

from msgspec import Struct


class TensorFidelity(Struct, frozen=True):
    """How close one tensor is to the original model's, over all held-out samples."""

    name: str
    """Name of the tensor; may be empty."""
    relative_error: float
    """||changed - original|| / ||original||, 0 for no difference."""
    sqnr_db: float | None
    """Signal-to-quantization-noise ratio in dB; null where there is no noise."""
    top1_agreement: float | None
    """Share (0..1) of positions whose largest element along the last axis is the same; null where that has one."""


class Fidelity(Struct, frozen=True):
    """How close a changed model is to the original, measured in LiteRT on samples that were held out."""

    samples: int
    """How many samples were held out."""
    is_synthetic: bool
    """Whether they are seeded noise, and not data of the user."""
    outputs: tuple[TensorFidelity, ...]
    """The model's outputs, in its order."""
    tensors: tuple[TensorFidelity, ...]
    """All tensors that both models have."""
    float_accuracy: float | None = None
    """Share (0..1) of samples that the original classifies rightly; null without labels."""
    quantized_accuracy: float | None = None
    """The same of the changed model; null without labels."""
