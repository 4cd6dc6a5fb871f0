import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.recipe import (
    Channels,
    Clustering,
    Finetune,
    Layer,
    Pruning,
    Quantize,
    Recipe,
    Rewrite,
    brief,
    checked,
    describe,
    load_recipe,
    parse_keep,
    parse_layer,
    recipe_toml,
)

SHARES = st.floats(0.01, 0.99)
LAYERS = st.builds(
    Layer,
    match=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
    pruning=st.one_of(st.none(), st.just(False), SHARES),
    clustering=st.one_of(st.just(False), st.integers(2, 255)),
)
RECIPES = st.builds(
    Recipe,
    quantize=st.none() | st.builds(Quantize, st.sampled_from(["int8", "int16"]), st.booleans()),
    rewrite=st.none() | st.builds(Rewrite, st.booleans()),
    channels=st.none() | st.builds(Channels, SHARES | st.just("dead"), st.integers(1, 256)),
    pruning=st.none() | st.builds(Pruning, SHARES),
    clustering=st.none() | st.builds(Clustering, st.integers(2, 255)),
    compensate=st.booleans(),
    finetune=st.none() | st.builds(Finetune, st.integers(1, 1000)),
    layers=st.lists(LAYERS, max_size=3).map(tuple),
)


@given(RECIPES)
def test_what_is_saved_is_read_again(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    layers = tuple(replace(layer, match=re.escape(layer.match)) for layer in recipe.layers)
    recipe = replace(recipe, layers=layers, quantize=recipe.quantize or Quantize())
    path.write_text(recipe_toml(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert brief(recipe)
    assert describe(recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pruning]\ntarget = 1.5", "above 0 and below 1; 1.5 is not"),
        ("[pruning]\ntarget = nan", "above 0 and below 1; nan is not"),
        ('[pruning]\ntarget = 0.6\npattern = "2:4"', "prunes exactly half"),
        ("[clustering]\ntarget = 1", "from 2 to 255; 1 is not"),
        ("[channels]\nkeep = 0.0", "above 0 and below 1"),
        ('[channels]\nkeep = "all"', "keep"),
        ("[channels]\nkeep = 0.5\nmultiple = 0", "the multiple of channels"),
        ("[finetune]\nsteps = 0", "fine-tuning steps"),
        ("[speed]\nmore = true", "unknown field `speed`"),
        ("compensate = false", "asks for nothing"),
        ('[clustering]\ntarget = 16\n[[layers]]\nmatch = "x"\nclustering = 0', "from 2 to 255; 0 is not"),
        ('[[layers]]\nmatch = "("\npruning = 0.5', "not a regular expression"),
        ('[[layers]]\nmatch = "x"\npruning = true', "says true"),
        ('[[layers]]\nmatch = "x"', "nothing is said about 'x'"),
        ('[[layers]]\nmatch = "x"\nchannels = 0.5', "none are removed"),
        ("pruning", "not one"),
    ],
)
def test_absurd_recipes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(TransformError, match=message):
        load_recipe(path)


def test_a_recipe_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.toml")


def test_the_last_override_that_says_something_wins() -> None:
    recipe = Recipe(layers=(Layer("conv", pruning=0.3, clustering=8), Layer("conv_2", pruning=False)))
    assert (recipe.layer("conv_2").pruning, recipe.layer("conv_2").clustering) == (False, 8)
    assert (recipe.layer("conv_1").pruning, recipe.layer("dense").pruning) == (0.3, None)


def test_overrides_as_the_command_line_gives_them() -> None:
    layer = parse_layer("block_[12]:x/.*:pruning=0.3,clustering=off,channels=dead")
    assert layer == Layer("block_[12]:x/.*", pruning=0.3, clustering=False, channels="dead")
    assert parse_keep("0.75") == 0.75
    for text in ("dense", "dense:", ":pruning=1", "dense:pruning=x", "dense:speed=1", "dense:pruning=1,pruning=2"):
        with pytest.raises(TransformError, match=r"is not like|neither a figure nor off"):
            parse_layer(text)
    with pytest.raises(TransformError, match="neither a share"):
        parse_keep("most")


def test_options_are_the_recipe_in_words() -> None:
    recipe = Recipe(pruning=Pruning(0.6), clustering=Clustering(16), layers=(Layer("dense", pruning=False),))
    assert describe(checked(recipe)) == (
        "--pruning --pruning-target 0.6 --clustering --clustering-target 16 --layer dense:pruning=off"
    )
    assert brief(Recipe(clustering=Clustering(32), layers=(Layer("a", clustering=16), Layer("b", clustering=16)))) == (
        "32 codes, 16 codes in 2"
    )


@pytest.mark.parametrize("recipe", [Recipe(pruning=Pruning(pattern="4:8")), Recipe(clustering=Clustering(16.5))])  # type: ignore[arg-type]
def test_recipes_from_python_are_looked_at(recipe: Recipe) -> None:
    with pytest.raises(TransformError, match="the recipe is not one"):
        checked(recipe)
