"""The registry's entries of the variants that act elsewhere, or that learn."""

from dropout.variants import (
    attention,
    kernels,
    nonlinearities,
    paths,
    recurrent,
)
from dropout.variants.entry import MOST_AXES, Learned, Variant
from dropout.variants.learned import (
    concrete,
    l0_gate,
    sparse_variational,
    standout,
    variational,
)
from dropout.variants.on_activations import FEATURES, NOTHING_DROPPED, UNSCALED

HEADS = ("weights",)
SOFT = "its mask is soft, so that little is exactly zero"

ON_WEIGHTS_AND_PATHS = (
    # Weights.
    Variant(
        kernels.dropconnect,
        kinds=("kernel",),
        moment_matched=kernels.moment_matched,
    ),
    Variant(kernels.kernel_dropout, axes=(3, MOST_AXES), kinds=("kernel",)),
    Variant(kernels.mixout, kinds=("kernel",), needs_start=True),
    Variant(kernels.embedding, axes=(3, MOST_AXES), kinds=("kernel",)),
    Variant(
        kernels.targeted,
        axes=(3, MOST_AXES),
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
        expectation=paths.layerdrop_mean,
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
    # Non-linearities.
    Variant(
        nonlinearities.drop_activation,
        kinds=("act",),
        evaluate=nonlinearities.expected_activation,
        exempt={
            "rate": "an element whose non-linearity is dropped passes on",
            "nested": "dropping a non-linearity passes on what it kept back",
        },
    ),
    Variant(
        nonlinearities.rrelu,
        kinds=("act",),
        evaluate=nonlinearities.expected_rrelu,
        exempt={
            "rate": "its rate multiplies the slope, which is hardly ever 0",
            "memory": "which inputs are negative is kept, one byte per element",
        },
    ),
    # Recurrent networks.
    Variant(
        recurrent.locked,
        axes=(2, MOST_AXES),
        kinds=FEATURES,
        per="sequence",
        multiplies=True,
    ),
    Variant(recurrent.recurrent, kinds=FEATURES, multiplies=True),
    Variant(recurrent.zoneout, kinds=("state",), evaluate=recurrent.expected_state),
    # Attention.
    Variant(attention.attention, axes=(4, 4), kinds=HEADS),
    Variant(
        attention.dropkey,
        kinds=("logits",),
        expectation=attention.dropkey_mean,
        exempt={"mean": "dropped logits are the lowest number; the softmax rescales"},
    ),
    Variant(
        attention.drophead,
        axes=(4, 4),
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
        axes=(2, MOST_AXES),
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
        l0_gate.l0_gate,
        axes=(2, MOST_AXES),
        kinds=FEATURES,
        domain="(0, 1)",
        evaluate=l0_gate.l0_at_test,
        expectation=l0_gate.l0_mean,
        exempt={"mean": "at test the gate without noise, which is not its mean"},
        learned=Learned(
            l0_gate.l0_init, l0_gate.l0_rate, l0_gate.l0_penalty, l0_gate.l0_prune
        ),
    ),
    Variant(
        variational.variational,
        axes=(2, MOST_AXES),
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
        axes=(2, MOST_AXES),
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
