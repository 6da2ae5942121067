"""The registry's entries of the variants that act on activations."""

from dropout.kinds import ACTIVATIONS
from dropout.variants import (
    adaptive,
    blocks,
    elementwise,
    fixed_masks,
    grids,
    kernels,
    pooling,
    regions,
    structured,
)
from dropout.variants.entry import MOST_AXES, Law, Variant

FEATURES = ("activation", "input", "pre", "branch")
TOKENS = ("activation", "input", "branch")
MAPS = ("input", "activation", "pre", "branch")

UNSCALED = "nothing is scaled: E[y] = (1 - rate) x"
NOTHING_DROPPED = "its noise is never zero"
ERASED: dict[Law, str] = {
    "mean": "nothing is scaled: E[y] = x (1 - rate P)",
    "rate": "its rate counts images; a pixel is covered in some of them",
}

ON_ACTIVATIONS = (
    # Each element on its own.
    Variant(
        elementwise.bernoulli,
        multiplies=True,
        kinds=(*ACTIVATIONS, "kernel"),
        moment_matched=kernels.moment_matched,
    ),
    Variant(
        elementwise.gaussian,
        multiplies=True,
        kinds=(*ACTIVATIONS, "kernel"),
        moment_matched=kernels.moment_matched,
        domain="[0, 1)",
        exempt={"rate": NOTHING_DROPPED},
    ),
    Variant(elementwise.uniform, multiplies=True, exempt={"rate": NOTHING_DROPPED}),
    Variant(
        elementwise.alpha,
        kinds=FEATURES,
        domain="[0, 1)",
        expectation=elementwise.alpha_mean,
        exempt={"mean": "it keeps mean 0 and variance 1 over the data, not of each x"},
    ),
    Variant(
        elementwise.feature_alpha,
        axes=(2, MOST_AXES),
        kinds=FEATURES,
        domain="[0, 1)",
        expectation=elementwise.alpha_mean,
        exempt={"mean": "it keeps mean 0 and variance 1 over the data, not of each x"},
    ),
    Variant(
        elementwise.max_dropout,
        kinds=FEATURES,
        expectation=elementwise.drop_largest,
        exempt={
            "mean": "it always drops the largest elements, and scales nothing",
            "rate": "its rate is a threshold, not a fraction",
            "keys": "it draws nothing",
            "memory": "its mask is a function of x, kept as one byte per element",
        },
    ),
    # Channels, positions, blocks and rectangles.
    Variant(structured.spatial, axes=(2, MOST_AXES), kinds=FEATURES, multiplies=True),
    Variant(
        structured.weighted_channel,
        axes=(2, MOST_AXES),
        kinds=FEATURES,
        exempt={
            "mean": "active channels gain and others lose; the sum of scores is kept",
        },
    ),
    Variant(
        structured.nested,
        multiplies=True,
        axes=(2, MOST_AXES),
        kinds=FEATURES,
        evaluate=structured.first_channels,
        expectation=structured.nested_mean,
        exempt={
            "mean": "nothing is scaled: E[y_c] = x_c (1 - rate P)",
            "rate": "its rate counts examples; a channel is dropped in some of them",
        },
    ),
    Variant(
        structured.patch,
        multiplies=True,
        axes=(3, MOST_AXES),
        kinds=TOKENS,
        expectation=structured.patch_mean,
        exempt={"mean": "nothing is scaled: E[y] is x times the fraction of tokens"},
    ),
    Variant(
        structured.word,
        multiplies=True,
        axes=(2, MOST_AXES),
        kinds=TOKENS,
        expectation=structured.kept_fraction,
        exempt={"mean": UNSCALED},
    ),
    Variant(blocks.dropblock, axes=(3, 4), kinds=FEATURES, multiplies=True),
    Variant(
        blocks.disout,
        axes=(3, 4),
        kinds=FEATURES,
        exempt={"gradient": "the noise follows the spread of x without a gradient"},
    ),
    Variant(
        regions.cutout,
        multiplies=True,
        axes=(4, 4),
        kinds=MAPS,
        expectation=regions.cutout_mean,
        exempt=ERASED,
    ),
    Variant(
        regions.random_erasing,
        axes=(4, 4),
        kinds=MAPS,
        expectation=regions.random_erasing_mean,
        exempt=ERASED,
    ),
    Variant(
        regions.erase,
        multiplies=True,
        axes=(4, 4),
        kinds=MAPS,
        unit="batch",
        expectation=regions.erase_mean,
        exempt=ERASED,
    ),
    Variant(
        grids.grid_mask,
        multiplies=True,
        axes=(4, 4),
        kinds=MAPS,
        expectation=grids.grid_mask_mean,
        exempt=ERASED,
    ),
    Variant(
        grids.hide_and_seek,
        multiplies=True,
        axes=(4, 4),
        kinds=MAPS,
        expectation=grids.hide_and_seek_mean,
        exempt=ERASED,
    ),
    # Masks that depend on the values.
    Variant(
        adaptive.adl,
        axes=(4, 4),
        kinds=MAPS[1:],
        unit="batch",
        expectation=adaptive.adl_mean,
        exempt={
            "mean": "active positions are dropped, or else all are weighed by sigmoid",
            "rate": "its rate counts maps, of which the active positions are dropped",
            "gradient": "the importance of a position is a function of x, too",
            "memory": "its mask is a function of x, which is kept",
        },
    ),
    Variant(
        adaptive.jumpout,
        kinds=FEATURES,
        exempt={
            "mean": "it scales by a power of 1 / (1 - p') between 0 and 1",
            "rate": "its rate is the spread of the chance of being dropped",
        },
    ),
    # Masks that are fixed for a run.
    Variant(
        fixed_masks.masksembles,
        axes=(2, MOST_AXES),
        kinds=FEATURES,
        unit="run",
        needs_number=True,
        evaluate=fixed_masks.mean_of_masks,
        exempt={
            "nested": "its masks are laid out over the channels for each rate anew"
        },
    ),
    # Inside pooling windows.
    Variant(
        pooling.max_pool,
        multiplies=True,
        axes=(4, 4),
        kinds=("window",),
        evaluate=pooling.weighted_max_pool,
        scaling=pooling.scaled_max_pool,
        exempt={
            "rate": "the pooling passes on one input per window in any case",
            "nested": "dropping the largest input passes on another",
        },
    ),
    Variant(
        pooling.stochastic_pool,
        axes=(4, 4),
        kinds=("window",),
        evaluate=pooling.expected_pool,
        exempt={
            "rate": "its rate counts windows in which the input is chosen at random",
            "nested": "choosing another input than the largest passes it on",
        },
    ),
    Variant(
        pooling.mixed_pool,
        axes=(4, 4),
        kinds=("window",),
        evaluate=pooling.expected_mixed_pool,
        exempt={
            "rate": "its rate counts windows of which the mean is taken",
            "nested": "the mean passes on all inputs of its window",
        },
    ),
)
