"""SAMPLE_OPTIMIZATION: one optimization with something of everything."""

from msgspec.structs import replace
from sample import CALIBRATION, SAMPLE_REPORT, TARGET, TIMED

from mlia.fidelity import Fidelity, TensorFidelity
from mlia.figures import Figures
from mlia.recipe import Channels, Clustering, Layer, Pruning, Recipe, brief
from mlia.report import Comparison, Conversion, Evaluation, OptimizeReport, Trial
from mlia.results import Change, Skipped

RECIPE = Recipe(pruning=Pruning(0.6), clustering=Clustering(16), layers=(Layer("dense", pruning=False),))
BEFORE = Figures(
    0.284, 0.284, 141_981, 150_000, 107_389, 77_360, 74_656, 51_840, None, 79_312, 51_840, 78_400, 92_464, 1
)
AFTER = replace(
    BEFORE,
    total_cycles=107_573,
    vela_total_cycles=110_000,
    npu_cycles=107_197,
    latency_ms=0.215,
    compressed_weights_bytes=25_600,
    flash_bytes=30_256,
)
FIDELITY = Fidelity(64, False, (TensorFidelity("dense", 0.1312, 17.6, 0.925),), (), 0.88, 0.875)


def trial(recipe: Recipe, cycles: int, error: float, objection: str = "", is_chosen: bool = False) -> Trial:
    return Trial(
        recipe,
        brief(recipe),
        (cycles,),
        (cycles // 4,),
        (cycles // 3,),
        error,
        12.5,
        0.9,
        0.86,
        None,
        objection,
        is_chosen,
    )


SAMPLE_OPTIMIZATION = OptimizeReport(
    schema_version="1.0",
    mlia_version="0.1.0",
    model=replace(SAMPLE_REPORT.model, conversion=Conversion("Keras HDF5", "read by mlia", ())),
    optimized=SAMPLE_REPORT.model,
    float_bytes=314_812,
    calibration="photos.npz (256 samples, 64 more held out)",
    recipe=RECIPE,
    changes=(
        Change("quantize", "all operators", "int8, by LiteRT's quantizer"),
        *(Change("pruning", f"block_{number}/conv", "60.0 % zero") for number in range(1, 15)),
        Change("clustering", "block_1/conv", "231 -> 16 codes"),
    ),
    skipped=(
        Skipped("pruning of first", "the first operator is left alone"),
        *(Skipped(f"pruning of depthwise_{number}", "a depthwise operator is left alone") for number in range(3)),
    ),
    fidelity_before=FIDELITY,
    fidelity_after=replace(FIDELITY, outputs=(TensorFidelity("dense", 0.52, 5.7, 0.67),), quantized_accuracy=0.61),
    evaluation=Evaluation(0.9, 0.85),
    comparisons=(
        Comparison(TARGET, TIMED, CALIBRATION, BEFORE, AFTER, 1.3199, 1.3221, "the NPU computed in 76 % of the cycles"),
    ),
    trials=(
        trial(Recipe(), 141_981, 0.13),
        trial(RECIPE, 107_573, 0.52, is_chosen=True),
        trial(Recipe(channels=Channels(0.5)), 61_929, 0.71, "a loss of 20.0 % is above 1 %"),
    ),
    suggestions=(trial(Recipe(channels=Channels(0.75)), 99_000, 0.31),),
    missed_limit="0.215 ms is above 0.2 ms",
    notes=("the time budget ended the search",),
)
