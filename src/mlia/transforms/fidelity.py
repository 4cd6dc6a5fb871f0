"""How close a changed model is to the original: from what both computed for the same samples."""

from collections.abc import Sequence

from mlia.errors import TransformError
from mlia.fidelity import Fidelity, TensorFidelity
from mlia.transforms.calibration import Array, Calibration

_HOPELESS = 1e9  # stands for an error that is no number


class Difference:
    """Sums over samples of two tensors that should be equal.

    Their last axis is taken for classes: top-1 agreement counts all positions along the others, so that it means
    something for an output per pixel or per time step as well.
    """

    def __init__(self) -> None:
        self._signal = self._noise = 0.0
        self._elements = self._agreed = self._compared = 0

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
        self._elements += expected.size
        if expected.size and expected.shape and expected.shape[-1] > 1:
            agreed = expected.argmax(axis=-1) == found.argmax(axis=-1)
            self._agreed += int(agreed.sum())
            self._compared += agreed.size

    @property
    def mean_error(self) -> float:
        """The root of the mean squared error of an element, in the tensor's own unit."""
        return (self._noise / self._elements) ** 0.5 if self._elements else 0.0

    def figures(self, name: str) -> TensorFidelity:
        """The figures of all samples that were added."""
        import math

        relative = (self._noise / self._signal) ** 0.5 if self._signal else (0.0 if not self._noise else 1.0)
        if not math.isfinite(relative):
            relative = _HOPELESS
        sqnr = 10 * math.log10(self._signal / self._noise) if self._noise and self._signal else None
        top1 = self._agreed / self._compared if self._compared else None
        return TensorFidelity(name, relative, sqnr, top1)


class Closeness:
    """Sums over samples of all outputs of two models; with labels, the accuracy of the first output of each as well.

    Args:
        names: of the outputs.
        labels: the class of each sample, in the order in which they will be added; or None.
    """

    def __init__(self, names: Sequence[str], labels: Array | None) -> None:
        self._names, self._labels = tuple(names), labels
        self._differences = [Difference() for _ in names]
        self._samples = 0
        self._right: tuple[list[bool], list[bool]] = [], []

    def add(self, expected: Sequence[Array], found: Sequence[Array]) -> None:
        """What both models computed for one sample: an array per output.

        Raises:
            ValueError: the shapes of an output differ.
            TransformError: there are labels that the first output has no value for.
        """
        for difference, theirs, ours in zip(self._differences, expected, found, strict=True):
            difference.add(theirs, ours)
        for right, outputs in zip(self._right, (expected[0], found[0]), strict=True):
            right += self._is_right(outputs)
        self._samples += 1

    def is_close(self, steps: Sequence[float | None]) -> bool:
        """Whether the error of each output is smaller than what it is an error of, or than a given step."""
        return all(
            each.figures("").relative_error < 1 or (step is not None and each.mean_error <= step)
            for each, step in zip(self._differences, steps, strict=True)
        )

    def fidelity(self, is_synthetic: bool, tensors: tuple[TensorFidelity, ...] = ()) -> Fidelity:
        """The figures of all samples that were added."""
        float_accuracy, quantized_accuracy = (sum(right) / len(right) if right else None for right in self._right)
        return Fidelity(
            samples=self._samples,
            is_synthetic=is_synthetic,
            outputs=tuple(each.figures(name) for each, name in zip(self._differences, self._names, strict=True)),
            tensors=tensors,
            float_accuracy=float_accuracy,
            quantized_accuracy=quantized_accuracy,
        )

    def _is_right(self, output: Array) -> tuple[bool, ...]:
        """Whether the largest value is at the sample's label; nothing where a sample has not one answer."""
        if self._labels is None or output.ndim < 1 or output.shape[-1] < 2 or output.size != output.shape[-1]:
            return ()
        classes, highest = output.shape[-1], self._labels.max()
        if highest >= classes:
            raise TransformError(f"the labels go up to {highest}, but the first output has {classes} classes")
        return (bool(output.reshape(-1).argmax() == self._labels[self._samples]),)


def fidelity(
    names: Sequence[str], expected: Sequence[Array], found: Sequence[Array], calibration: Calibration
) -> Fidelity:
    """The closeness of outputs, each (held-out samples, *shape).

    Raises:
        TransformError: there are labels that the first output has no value for.
    """
    closeness = Closeness(names, calibration.labels)
    for theirs, ours in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        closeness.add(theirs, ours)
    return closeness.fidelity(calibration.is_synthetic)
