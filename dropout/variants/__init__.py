"""The registry of variants: to add one, write its function and an entry here."""

from dropout.kinds import ACTIVATIONS
from dropout.variants import (
    attention,
    blocks,
    elementwise,
    kernels,
    paths,
    pooling,
    recurrent,
    regions,
    structured,
)
from dropout.variants.entry import Learned, Variant
from dropout.variants.learned import (
    concrete,
    sparse_variational,
    standout,
    variational,
)

FEATURES = ("activation", "input", "pre", "branch")
TOKENS = ("activation", "input", "branch")
HEADS = ("weights",)

UNSCALED = "nothing is scaled: E[y] = (1 - rate) x"
SOFT = "its mask is soft, so that little is exactly zero"
NOTHING_DROPPED = "its noise is never zero"

ENTRIES = (
    # Each element on its own.
    Variant(
        elementwise.bernoulli,
        kinds=(*ACTIVATIONS, "kernel"),
        moment_matched=kernels.moment_matched,
    ),
    Variant(
        elementwise.gaussian,
        kinds=(*ACTIVATIONS, "kernel"),
        moment_matched=kernels.moment_matched,
        domain="[0, 1)",
        exempt={"rate": NOTHING_DROPPED},
    ),
    Variant(elementwise.uniform, exempt={"rate": NOTHING_DROPPED}),
    Variant(
        elementwise.alpha,
        kinds=FEATURES,
        domain="[0, 1)",
        expectation=elementwise.alpha_mean,
        exempt={"mean": "it keeps mean 0 and variance 1 over the data, not of each x"},
    ),
    Variant(
        elementwise.feature_alpha,
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
    Variant(structured.spatial, kinds=FEATURES),
    Variant(
        structured.weighted_channel,
        kinds=FEATURES,
        exempt={
            "mean": "active channels gain and others lose; the sum of scores is kept",
        },
    ),
    Variant(
        structured.patch,
        kinds=TOKENS,
        expectation=structured.patch_mean,
        exempt={"mean": "nothing is scaled: E[y] is x times the fraction of tokens"},
    ),
    Variant(
        structured.word,
        kinds=TOKENS,
        expectation=structured.kept_fraction,
        exempt={"mean": UNSCALED},
    ),
    Variant(blocks.dropblock, kinds=FEATURES),
    Variant(
        blocks.disout,
        kinds=FEATURES,
        exempt={"gradient": "the noise follows the spread of x without a gradient"},
    ),
    Variant(
        regions.cutout,
        kinds=("input",),
        expectation=regions.cutout_mean,
        exempt={
            "mean": "nothing is scaled: E[y] = x (1 - rate P)",
            "rate": "its rate counts images; a pixel is covered in some of them",
        },
    ),
    Variant(
        regions.random_erasing,
        kinds=("input",),
        expectation=regions.random_erasing_mean,
        exempt={
            "mean": "nothing is scaled: E[y] = x (1 - rate P)",
            "rate": "its rate counts images; a pixel is covered in some of them",
        },
    ),
    # Inside pooling windows.
    Variant(
        pooling.max_pool,
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
        kinds=("window",),
        evaluate=pooling.expected_pool,
        exempt={
            "rate": "its rate counts windows in which the input is chosen at random",
            "nested": "choosing another input than the largest passes it on",
        },
    ),
    # Weights.
    Variant(
        kernels.dropconnect,
        kinds=("kernel",),
        moment_matched=kernels.moment_matched,
    ),
    Variant(kernels.kernel_dropout, kinds=("kernel",)),
    Variant(kernels.embedding, kinds=("kernel",)),
    Variant(
        kernels.targeted,
        kinds=("kernel",),
        expectation=kernels.targeted_mean,
        exempt={
            "mean": "nothing is scaled: E[y] = (1 - rate) x for candidates, else x",
            "rate": "only candidates are dropped",
            "memory": "which weights are candidates is kept, one byte per weight",
        },
    ),
    # Paths.
    Variant(paths.drop_path, kinds=("branch",)),
    Variant(
        paths.layerdrop,
        kinds=("branch",),
        unit="batch",
        expectation=structured.kept_fraction,
        exempt={"mean": UNSCALED},
    ),
    Variant(
        paths.shakedrop,
        kinds=("branch",),
        evaluate=paths.expected_branch,
        exempt={
            "rate": "a branch that is not kept is shaken, not dropped",
            "gradient": "the backward pass draws another coefficient, on purpose",
        },
    ),
    Variant(
        paths.shake_shake,
        kinds=("branches",),
        exempt={
            "rate": "branches are mixed, not dropped",
            "gradient": "the backward pass draws another proportion, on purpose",
        },
    ),
    # Recurrent networks.
    Variant(recurrent.locked, kinds=FEATURES, per="sequence"),
    Variant(recurrent.recurrent, kinds=FEATURES),
    Variant(recurrent.zoneout, kinds=("state",), evaluate=recurrent.expected_state),
    # Attention.
    Variant(attention.attention, kinds=HEADS),
    Variant(
        attention.dropkey,
        kinds=("logits",),
        expectation=attention.dropkey_mean,
        exempt={"mean": "dropped logits are the lowest number; the softmax rescales"},
    ),
    Variant(
        attention.drophead,
        kinds=HEADS,
        expectation=attention.drophead_mean,
        exempt={"mean": "when no head is kept nothing is: E[y] = (1 - rate^H) x"},
    ),
    # Learned rates.
    Variant(
        concrete.concrete,
        kinds=FEATURES,
        domain="(0, 1)",
        exempt={"rate": SOFT},
        learned=Learned(
            concrete.concrete_init, concrete.concrete_rate, concrete.concrete_penalty
        ),
    ),
    Variant(
        concrete.spatial_concrete,
        kinds=FEATURES,
        domain="(0, 1)",
        expectation=concrete.concrete_mean,
        exempt={
            "mean": "its mask is soft: E[y] is 0.95 x at rates 0.1 to 0.3",
            "rate": SOFT,
        },
        learned=Learned(
            concrete.concrete_init,
            concrete.concrete_rate,
            concrete.spatial_concrete_penalty,
        ),
    ),
    Variant(
        variational.variational,
        kinds=(*FEATURES, "kernel"),
        domain="(0, 0.5]",
        kernel_form="product",
        exempt={"rate": NOTHING_DROPPED},
        learned=Learned(
            variational.variational_init,
            variational.variational_rate,
            variational.variational_penalty,
        ),
    ),
    Variant(
        sparse_variational.sparse_variational,
        kinds=("kernel",),
        domain="(0, 1)",
        evaluate=sparse_variational.pruned_product,
        kernel_form="product",
        exempt={
            "rate": NOTHING_DROPPED,
            "memory": "the variance of each output is kept",
        },
        learned=Learned(
            sparse_variational.sparse_init,
            sparse_variational.sparse_rate,
            sparse_variational.sparse_penalty,
            sparse_variational.sparse_prune,
        ),
    ),
    Variant(
        standout.standout,
        kinds=("pre",),
        evaluate=standout.expected_standout,
        exempt={
            "rate": "its rate holds for a unit at 0; the others follow their values",
            "gradient": "the mask follows x without a gradient",
            "memory": "its mask is a function of x, which is kept",
        },
    ),
)

VARIANTS: dict[str, Variant] = {entry.name: entry for entry in ENTRIES}
