"""How much work the custom operators do that come with TensorFlow Lite Micro: counts, from the loops of their kernels.

The signal operators (signal/src of tflite-micro) are plain C on every core. An integer square root and a logarithm
take some 16 steps for each element; a real FFT of N is a complex one of N / 2, of four products for each butterfly.
"""

import math
from collections.abc import Callable, Mapping

from mlia.backends.cortex_m.matrix_work import Work
from mlia.graph.graph import Tensor
from mlia.graph.tflite import ELEMENT_BITS


def custom_work(code: str, tensor: Tensor, outputs: int) -> Work:
    """Counts of one inference of a custom operator on `tensor` that writes so many elements."""
    return _WORK[code](tensor, outputs)


def _detection(tensor: Tensor, outputs: int) -> Work:
    """Every score is compared, every box decoded."""
    return {"float_element": 4 * tensor.elements, "float_function": tensor.elements}


def _copied(tensor: Tensor, outputs: int) -> Work:
    return {"copy_byte": max(tensor.elements, outputs) * ELEMENT_BITS.get(tensor.dtype, 8) // 8, "copy_piece": 1}


def _windowed(tensor: Tensor, outputs: int) -> Work:
    return {"reference_mac": outputs}


def _scaled(tensor: Tensor, outputs: int) -> Work:
    """One pass finds the largest, another shifts all."""
    return {"light_element": 2 * outputs}


def _transformed(tensor: Tensor, outputs: int) -> Work:
    points = max(tensor.elements, outputs, 4)
    butterflies = points / 4 * math.log2(points / 2)
    if tensor.dtype == "float32":
        return {"float_mac": 4 * butterflies, "float_element": 6 * butterflies + 4 * points}
    return {"reference_mac": 4 * butterflies, "light_element": 6 * butterflies + 4 * points}


def _energies(tensor: Tensor, outputs: int) -> Work:
    return {"reference_mac": 2 * outputs}


def _weighed(tensor: Tensor, outputs: int) -> Work:
    """Each frequency is a part of two channels, in sums of 64 bits: two words each."""
    return {"reference_mac": 4 * tensor.elements, "light_element": outputs}


def _rooted(tensor: Tensor, outputs: int) -> Work:
    return {"light_element": 16 * outputs}


def _subtracted(tensor: Tensor, outputs: int) -> Work:
    return {"arithmetic_element": 2 * outputs}


_WORK: Mapping[str, Callable[[Tensor, int], Work]] = {
    "TFLite_Detection_PostProcess": _detection,
    "CIRCULAR_BUFFER": _copied, "TFLM_DECODE": _copied, "SignalDelay": _copied, "SignalFramer": _copied,
    "SignalStacker": _copied, "SignalOverlapAdd": _scaled, "SignalWindow": _windowed, "SignalFftAutoScale": _scaled,
    "SignalRfft": _transformed, "SignalIrfft": _transformed, "SignalEnergy": _energies, "SignalFilterBank": _weighed,
    "SignalFilterBankSquareRoot": _rooted, "SignalFilterBankLog": _rooted, "SignalPCAN": _rooted,
    "SignalFilterBankSpectralSubtraction": _subtracted,
}  # fmt: skip
