"""How close a changed model is to the original: from what both computed for the same samples."""

from collections.abc import Sequence

from mlia.errors import TransformError
from mlia.results import Fidelity, TensorFidelity
from mlia.transforms.calibration import Array, Calibration

_HOPELESS = 1e9  # stands for an error that is no number


class Difference:
    """Sums over samples of two tensors that should be equal.

    Their last axis is taken for classes: top-1 agreement counts all positions along the others, so that it means
    something for an output per pixel or per time step as well.
    """

    def __init__(self) -> None:
        self._signal = self._noise = 0.0
        self._agreed = self._compared = 0

    def add(self, expected: Array, found: Array) -> None:
        """One sample of both.

        Raises:
            ValueError: their shapes differ.
        """
        import numpy

        if expected.shape != found.shape:
            raise ValueError(f"a tensor of shape {list(expected.shape)} has become {list(found.shape)}")
        expected, found = expected.astype(numpy.float64), found.astype(numpy.float64)
        self._signal += float((expected**2).sum())
        self._noise += float(((expected - found) ** 2).sum())
        if expected.size and expected.shape and expected.shape[-1] > 1:
            agreed = expected.argmax(axis=-1) == found.argmax(axis=-1)
            self._agreed += int(agreed.sum())
            self._compared += agreed.size

    def figures(self, name: str) -> TensorFidelity:
        """The figures of all samples that were added."""
        import math

        relative = (self._noise / self._signal) ** 0.5 if self._signal else (0.0 if not self._noise else 1.0)
        if not math.isfinite(relative):
            relative = _HOPELESS
        sqnr = 10 * math.log10(self._signal / self._noise) if self._noise and self._signal else None
        top1 = self._agreed / self._compared if self._compared else None
        return TensorFidelity(name, relative, sqnr, top1)


def fidelity(
    names: Sequence[str],
    expected: Sequence[Array],
    found: Sequence[Array],
    calibration: Calibration,
    tensors: tuple[TensorFidelity, ...] = (),
) -> Fidelity:
    """The closeness of outputs, each (held-out samples, *shape); with labels, the accuracy of the first as well.

    Raises:
        TransformError: there are labels that the first output has no value for.
    """
    differences = [Difference() for _ in names]
    for difference, theirs, ours in zip(differences, expected, found, strict=True):
        for pair in zip(theirs, ours, strict=True):
            difference.add(*pair)
    return Fidelity(
        samples=len(expected[0]),
        is_synthetic=calibration.is_synthetic,
        outputs=tuple(difference.figures(name) for difference, name in zip(differences, names, strict=True)),
        tensors=tensors,
        float_accuracy=_accuracy(expected[0], calibration),
        quantized_accuracy=_accuracy(found[0], calibration),
    )


def _accuracy(outputs: Array, calibration: Calibration) -> float | None:
    """The share of held-out samples whose largest output is at the label; None where a sample has not one answer."""
    labels = calibration.labels
    if labels is None or outputs.ndim < 2 or outputs.shape[-1] < 2 or outputs[0].size != outputs.shape[-1]:
        return None
    if labels.max() >= outputs.shape[-1]:
        raise TransformError(
            f"the labels go up to {labels.max()}, but the first output has {outputs.shape[-1]} classes"
        )
    return float((outputs.reshape(len(outputs), -1).argmax(axis=1) == labels).mean())
