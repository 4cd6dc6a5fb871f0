"""Models and samples for the benchmarks, made on the spot and kept below .bench/."""

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from peers import BENCH

from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch, quantize_synthetically

SAMPLES = 250  # for the tool; a fifth of them it holds out, to choose and to judge by
TEST = 200  # and for us, to judge it by


class Samples(NamedTuple):
    """Files of calibration data, and of a test set that neither training nor the tool has seen."""

    calibration: Path
    test: Path


def visual_wake_words() -> bytes:
    """MobileNetV1 x 0.25 at 96 x 96 x 3 with two classes: the shapes of MLPerf Tiny's vww_96, seeded weights."""
    net = Sketch("MobileNetV1 0.25 96x96, seeded weights", seed=2)
    x = net.input("image", (1, 96, 96, 3))
    x = net.convolution(x, filters=8, kernel=(3, 3), stride=(2, 2), name="conv")
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for number, (filters, stride) in enumerate(blocks, start=1):
        x = net.depthwise(x, stride=(stride, stride), name=f"block_{number}/depthwise")
        x = net.convolution(x, filters=filters, name=f"block_{number}/pointwise")
    x = net.average_pool(x, kernel=(3, 3), name="pool")
    x = net.reshape(x, (1, 256), name="flatten")
    x = net.fully_connected(x, units=2, name="dense")
    x = net.softmax(x, name="classes")
    return quantize_synthetically(write_tflite(net.graph([x])))


def digits() -> tuple[Path, Samples]:
    """A small CNN and labelled samples. It is trained on scikit-learn's 8 x 8 digits with Keras on JAX: 79,000 weights.

    Of the 1,797 digits, shuffled, 697 train, 800 calibrate (the tool holds out 160 of them), 300 test.
    """
    folder = _kept("digits", "keras", "jax", "scikit-learn")
    model, samples = folder / "digits.keras", Samples(folder / "calibration.npz", folder / "test.npz")
    if not (folder / ".ready").exists():
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)[order]
        labels = labels[order]
        _train(images[:697], labels[:697], model)
        np.savez(samples.calibration, input=images[697:1497], labels=labels[697:1497])
        np.savez(samples.test, input=images[1497:], labels=labels[1497:])
        (folder / ".ready").touch()
    return model, samples


def _train(images: np.ndarray, labels: np.ndarray, target: Path) -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1), name="image")])
    for filters, pooling in ((32, 1), (48, 2), (64, 1), (64, 1)):
        model.add(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(keras.layers.BatchNormalization(momentum=0.9))
        model.add(keras.layers.ReLU())
        if pooling > 1:
            model.add(keras.layers.MaxPooling2D(pooling))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 660)), "sparse_categorical_crossentropy"
    )
    model.fit(images, labels, batch_size=32, epochs=30, verbose=0)
    model.save(target)


def photo_crops() -> Samples:
    """For ResNet-8 (32 x 32 x 3, 0..255): crops from scikit-learn's two photos, of four sizes, some mirrored.

    What the tool holds out and what tests it comes from the right quarter of the photos, the rest from elsewhere.
    """
    folder = _kept("photos", "scikit-learn")
    samples = Samples(folder / "calibration.npz", folder / "test.npz")
    if not samples.test.exists():
        from sklearn.datasets import load_sample_images

        photos = load_sample_images().images
        random = np.random.default_rng(0)
        crops = []
        for number in range(SAMPLES + TEST):
            photo, shrink = photos[number % 2], int(random.integers(1, 5))
            height, width, _ = photo.shape
            edge, size = width * 3 // 4, 32 * shrink
            left, right = (0, edge) if number < SAMPLES * 0.8 else (edge, width)
            y, x = random.integers(0, height - size + 1), random.integers(left, right - size + 1)
            crop = photo[y : y + size, x : x + size].reshape(32, shrink, 32, shrink, 3).mean(axis=(1, 3))
            crops.append(crop[:, ::-1] if random.integers(2) else crop)
        _save(np.stack(crops), samples)
    return samples


def synthetic_speech() -> Samples:
    """For the keyword spotter (49 x 10 x 1): MFCCs of synthetic vowels and hisses, since no speech ships here.

    Each second holds one to four voiced or hissing pieces in noise. Features as in MLPerf Tiny: 30 ms windows each
    20 ms at 16 kHz, 40 mel bands from 20 to 4,000 Hz, natural logarithm, and the first 10 of the DCT.
    """
    folder = _kept("speech", "numpy")
    samples = Samples(folder / "calibration.npz", folder / "test.npz")
    if not samples.test.exists():
        random = np.random.default_rng(0)
        features = [_mfcc(_utterance(random)) for _ in range(SAMPLES + TEST)]
        _save(np.stack(features)[..., None], samples)
    return samples


def _save(values: np.ndarray, samples: Samples) -> None:
    np.savez(samples.calibration, input=values[:SAMPLES].astype(np.float32))
    np.savez(samples.test, input=values[SAMPLES:].astype(np.float32))


def _utterance(random: np.random.Generator, rate: int = 16_000) -> np.ndarray:
    """One second, 1 at its loudest: harmonics of a gliding pitch under three formants, or a band of noise."""
    wave = random.normal(0, 10 ** random.uniform(-4, -2), rate)
    starts = np.sort(random.integers(0, rate * 3 // 4, random.integers(1, 5)))
    for start in starts:
        time = np.arange(min(int(rate * random.uniform(0.06, 0.35)), rate - start)) / rate
        pitch = random.uniform(80, 280) * (1 + random.uniform(-0.3, 0.3) * time / time[-1])
        formants, widths = random.uniform([250, 800, 2000], [850, 2300, 3600]), np.array([80, 120, 200])
        frequencies = pitch.mean() * np.arange(1, 40)
        if random.random() < 0.25:  # a hiss instead of a vowel
            formants, frequencies = random.uniform(2500, 6000, 3), random.uniform(1500, 7500, 150)
            pitch = np.full(len(time), 1.0)
        gains = (1 / (1 + ((frequencies[:, None] - formants) / widths) ** 2)).sum(axis=1)
        phases = np.cumsum(pitch / pitch.mean()) / rate
        tones = np.sin(2 * np.pi * (frequencies[:, None] * phases + random.random((len(frequencies), 1))))
        piece = (gains[:, None] * tones).sum(axis=0) * np.hanning(len(time))
        wave[start : start + len(time)] += piece / np.abs(piece).max() * random.uniform(0.1, 0.9)
    return wave / np.abs(wave).max()


def _mfcc(wave: np.ndarray, rate: int = 16_000) -> np.ndarray:
    """(49, 10) coefficients. Mel scale: 1127 ln(1 + f / 700); DCT-II scaled by sqrt(2 / bands)."""
    window, stride, bands, kept = 480, 320, 40, 10
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::stride] * np.hanning(window + 1)[:-1]
    spectrum = np.abs(np.fft.rfft(frames, 512))
    mel = 1127 * np.log1p(np.linspace(0, rate / 2, 257) / 700)
    edges = np.linspace(*1127 * np.log1p(np.array([20, 4000]) / 700), bands + 2)
    rising = (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - mel[:, None]) / np.diff(edges)[1:]
    energies = np.log(spectrum @ np.clip(np.minimum(rising, falling), 0, None) + 1e-6)
    cosines = np.cos(np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(kept))
    return energies @ cosines * np.sqrt(2 / bands)


def _kept(name: str, *packages: str) -> Path:
    """The folder of what is made here, by a hash of this file and the versions of the packages that make it."""
    made_by = Path(__file__).read_bytes() + "".join(f"{package}{version(package)}" for package in packages).encode()
    folder = BENCH / f"{name}-{hashlib.sha256(made_by).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
