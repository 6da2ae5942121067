"""Names under which methods were published, and the plans that are these methods.

If a plan names such a method and it is no variant, the error suggests the plan.
`docs/variants.md` has both tables.
"""

PLANS: dict[str, str] = {
    # Elements.
    "dropout": "fc:bernoulli:0.5",
    "inverted_dropout": "fc:bernoulli:0.5",
    "mc_dropout": "fc:bernoulli:0.5",
    "unidrop": ("tokens:word:0.1 block*/mlp:bernoulli:0.1 block*/branch:layerdrop:0.1"),
    "gaussian_dropout": "fc:gaussian:0.5",
    "uout": "fc:uniform:0.1",
    "alpha_dropout": "fc:alpha:0.1",
    "feature_alpha_dropout": "conv*:feature_alpha:0.1",
    # Channels, positions, blocks.
    "dropout1d": "conv*:spatial:0.2",
    "dropout2d": "conv*:spatial:0.2",
    "dropout3d": "conv*:spatial:0.2",
    "spatial_dropout": "conv*:spatial:0.2",
    "spatial_dropout1d": "tokens:spatial:0.2",
    "channel_dropout": "conv*:spatial:0.2",
    "dropdim": "tokens:spatial:0.2",
    "weighted_channel_dropout": "conv*:weighted_channel:0.2",
    "patch_dropout": "tokens:patch:0.25",
    "droptoken": "tokens:patch:0.25",
    "word_dropout": "tokens:word:0.1",
    "hidden_cut": "tokens:dropblock(channels='shared'):0.1",
    "mc_dropblock": "conv*:dropblock:0.1",
    "feature_map_distortion": "conv*:disout:0.1",
    "nested_dropout": "fc:nested:1.0",
    "masked_ensembles": "fc:masksembles:0.5",
    # Regions of the image.
    "random_erase": "input:random_erasing:0.5",
    "batch_dropblock": "features:erase:1.0",
    "spec_augment": "input:erase(height=1.0, unit='example', width=0.1):1.0",
    "gridmask": "input:grid_mask:0.5",
    "attention_based_dropout": "conv*:adl:0.75",
    # Pooling.
    "max_pooling_dropout": "pool*/window:max_pool:0.2",
    "stochastic_pooling": "pool*/window:stochastic_pool:1.0",
    "mixed_pooling": "pool*/window:mixed_pool:0.5",
    # Weights.
    "drop_connect": "fc/kernel:dropconnect(unit='example'):0.5",
    "mc_dropconnect": "fc/kernel:dropconnect:0.5",
    "per_node_drop": "fc/kernel:dropconnect(unit='example'):0.2",
    "weight_drop": "lstm/recurrent/kernel:dropconnect:0.5",
    "dropfilter": "conv*/kernel:kernel_dropout(drop='filter'):0.1",
    "quant_noise": "conv*/kernel:kernel_dropout(drop='slice'):0.1",
    "targeted_dropout": "fc/kernel:targeted:0.5",
    # Paths.
    "stochastic_depth": "block*/branch:drop_path:huang(0.0..0.5)",
    "scheduled_drop_path": "block*/branch:drop_path:0.0..0.2@linear",
    "layer_skip": "block*/branch:layerdrop:exponential(0.0..0.2)",
    # Non-linearities.
    "randomized_leaky_relu": "conv*/act:rrelu:1.0",
    # Recurrent networks and attention.
    "locked_dropout": "rows:locked:0.3",
    "variational_rnn_dropout": "rows:locked:0.3 lstm/hidden:locked:0.3",
    "recurrent_dropout": "lstm/candidate:recurrent:0.25",
    "attention_dropout": "block*/attention/weights:attention:0.1",
    "head_dropout": "block*/attention/weights:drophead:0.2",
    # Rates that change, or are learned.
    "annealed_dropout": "fc:bernoulli:0.5@annealed",
    "curriculum_dropout": "fc:bernoulli:0.5@curriculum",
    "early_dropout": "fc:bernoulli:0.5@early",
    "late_dropout": "fc:bernoulli:0.5@late",
    "concrete_dropout": "fc:concrete:0.1",
    "variational_dropout": "fc:variational:0.3",
    "sparse_variational_dropout": "fc/kernel:sparse_variational:0.1",
    "l0_regularization": "fc:l0_gate:0.5",
    "adaptive_dropout": "fc/pre:standout:0.5",
}

LEFT_OUT: dict[str, str] = {
    "swapout": "its mask on the shortcut has no site",
    "fraternal_dropout": "it is a penalty on two passes: --consistency=fraternal",
    "expectation_linear_dropout": (
        "it is a penalty on two passes: --consistency=expectation_linear"
    ),
    "r_drop": "it is a penalty on two passes: --consistency=rdrop",
    "pi_model": "it is a penalty on two passes: --consistency=pi_model",
    "adversarial_dropout": "it needs a second pass, for the gradient of its mask",
    "representation_self_challenging": "it needs a second pass, for a gradient",
    "dropmax": "it drops classes, and so needs the labels",
    "auto_dropout": "another network searches for its patterns",
    "information_dropout": "a further layer computes the variance of its noise",
    "advanced_dropout": "a further layer computes the parameters of its noise",
    "focused_dropout": "only code of others could be read, and not its source",
    "spectral_dropout": "its formula could not be checked against its source",
    "explicit_dropout": "its formula could not be checked against its source",
    "checkerboard_dropout": "its formula could not be checked against its source",
}


def published(name: str) -> str:
    """Return what an error says about a published name, or "" for an unknown name.

    Case and `_` do not matter.
    """
    plain = {_plain(known): known for known in (*PLANS, *LEFT_OUT)}
    if _plain(name) not in plain:
        return ""
    known = plain[_plain(name)]
    if known in LEFT_OUT:
        return f"{known} is left out: {LEFT_OUT[known]}"
    return f"{known} is written as a plan such as {PLANS[known]!r}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
