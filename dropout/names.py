"""Names under which methods were published, and plans that express these methods.

`PLANS` has a plan for each method, and `LEFT_OUT` the reason why a method has none. If
a rule names such a method instead of a variant, the error shows the plan or the reason.
`docs/variants.md` has both tables.
"""

PLANS: dict[str, str] = {
    # Elements.
    "dropout": "fc:bernoulli:0.5",
    "inverted_dropout": "fc:bernoulli:0.5",
    "bernoulli_dropout": "fc:bernoulli:0.5",
    "mc_dropout": "fc:bernoulli:0.5",
    "monte_carlo_dropout": "fc:bernoulli:0.5",
    "input_dropout": "input:bernoulli:0.2",
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
    "feature_dropout": "conv*:spatial:0.2",
    "dropdim": "tokens:spatial:0.2",
    "weighted_channel_dropout": "conv*:weighted_channel:0.2",
    "patch_dropout": "tokens:patch:0.25",
    "droptoken": "tokens:patch:0.25",
    "patchout": "tokens:patch:0.25",
    "pixel_dropout": "input:word:0.01",
    "token_dropout": "tokens:word:0.1",
    "token_cutoff": "tokens:word:0.1",
    "feature_cutoff": "tokens:spatial:0.2",
    "word_dropout": "tokens:word:0.1",
    "hidden_cut": "tokens:dropblock(channels='shared'):0.1",
    "mc_dropblock": "conv*:dropblock:0.1",
    "crossmap_dropout": "conv*:dropblock(block_size=1, channels='shared'):0.2",
    "feature_map_distortion": "conv*:disout:0.1",
    "nested_dropout": "fc:nested:1.0",
    "ordered_dropout": "fc:nested:1.0",
    "masked_ensembles": "fc:masksembles:0.5",
    # Regions of the image.
    "random_erase": "input:random_erasing:0.5",
    "batch_dropblock": "features:erase:1.0",
    "spec_augment": "input:erase(height=1.0, unit='example', width=0.1):1.0",
    "time_masking": "input:erase(height=1.0, unit='example', width=0.1):1.0",
    "frequency_masking": "input:erase(height=0.1, unit='example', width=1.0):1.0",
    "coarse_dropout": "input:erase(height=0.2, unit='example', width=0.2):0.5",
    "grid_dropout": "input:grid_mask:0.5",
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
    "awd_lstm": (
        "rows:locked:0.4 lstm/hidden:locked:0.3 lstm/recurrent/kernel:dropconnect:0.5"
    ),
    "dropfilter": "conv*/kernel:kernel_dropout(drop='filter'):0.1",
    "quant_noise": "conv*/kernel:kernel_dropout(drop='slice'):0.1",
    "targeted_dropout": "fc/kernel:targeted:0.5",
    # Paths.
    "stochastic_depth": "block*/branch:drop_path:huang(0.0..0.5)",
    "scheduled_drop_path": "block*/branch:drop_path:0.0..0.2@linear",
    "swapout": "block*/branch:bernoulli:0.5 block*/shortcut:bernoulli:0.5",
    "layer_dropout": "block*/branch:layerdrop:0.1",
    "path_dropout": "block*/branch:drop_path:0.1",
    "residual_dropout": "block*/branch:bernoulli:0.1",
    "layer_skip": "block*/branch:layerdrop:exponential(0.0..0.2)",
    # Non-linearities.
    "randomized_leaky_relu": "conv*/act:rrelu:1.0",
    # Recurrent networks and attention.
    "locked_dropout": "rows:locked:0.3",
    "variational_rnn_dropout": "rows:locked:0.3 lstm/hidden:locked:0.3",
    "recurrent_dropout": "lstm/candidate:recurrent:0.25",
    "attention_dropout": "block*/attention/weights:attention:0.1",
    "head_dropout": "block*/attention/weights:drophead:0.2",
    "key_dropout": "block*/attention/logits:dropkey:0.1",
    # Rates that change, or are learned.
    "linear_scheduled_dropout": "fc:bernoulli:0.5@linear",
    "annealed_dropout": "fc:bernoulli:0.5@annealed",
    "curriculum_dropout": "fc:bernoulli:0.5@curriculum",
    "early_dropout": "fc:bernoulli:0.5@early",
    "late_dropout": "fc:bernoulli:0.5@late",
    "concrete_dropout": "fc:concrete:0.1",
    "variational_dropout": "fc:variational:0.3",
    "sparse_variational_dropout": "fc/kernel:sparse_variational:0.1",
    "sparse_vd": "fc/kernel:sparse_variational:0.1",
    "l0_regularization": "fc:l0_gate:0.5",
    "hard_concrete": "fc:l0_gate:0.5",
    "adaptive_dropout": "fc/pre:standout:0.5",
}

_UNCHECKED = "its formula could not be checked against its source"
_GRAPHS = "it drops parts of a graph, which no network here reads"

LEFT_OUT: dict[str, str] = {
    "fraternal_dropout": "it is a penalty on two passes: --consistency=fraternal",
    "expectation_linear_dropout": (
        "it is a penalty on two passes: --consistency=expectation_linear"
    ),
    "r_drop": "it is a penalty on two passes: --consistency=rdrop",
    "pi_model": "it is a penalty on two passes: --consistency=pi_model",
    "multi_sample_dropout": "it is --samples_per_step=8, draws in each step",
    "mixup": "it mixes pairs of images: --augment=mixup",
    "cutmix": "it mixes pairs of images: --augment=cutmix",
    "cutoff": (
        "it is token_cutoff or feature_cutoff, with a penalty on their disagreement"
    ),
    "adversarial_dropout": "it needs a second pass, for the gradient of its mask",
    "representation_self_challenging": "it needs a second pass, for a gradient",
    "excitation_dropout": "it needs a second pass, for the evidence of each unit",
    "camdrop": "it needs a second pass, for the class activation map",
    "learnable_bernoulli_dropout": (
        "it needs a second pass, for the gradient of its rates"
    ),
    "gradient_dropout": "it drops gradients, and leaves the network as it is",
    "data_dropout": "it leaves out training examples, not parts of a network",
    "dropmax": "it drops classes, and so needs the labels",
    "dropclass": "it drops classes, and so needs the labels",
    "auto_dropout": "another network searches for its patterns",
    "contextual_dropout": "a further network computes its rates from the input",
    "information_dropout": "a further layer computes the variance of its noise",
    "advanced_dropout": "a further layer computes the parameters of its noise",
    "focused_dropout": "only code of others could be read, and not its source",
    "fast_dropout": (
        "it samples sums from a Gaussian: at test scripts/evaluate.py --rule=gaussian"
    ),
    "fractalnet": "its drop-path joins several paths, which no network here has",
    "rnndrop": "it drops the memory of a cell, where only zoneout acts",
    "max_drop": (
        "it drops the largest activation of a map; max_dropout and adl are near it"
    ),
    **dict.fromkeys(("dropedge", "dropnode", "dropmessage", "dropgnn"), _GRAPHS),
    **dict.fromkeys(
        (
            "beta_dropout", "biased_dropout", "blockout", "bridgeout",
            "checkerboard_dropout", "continuous_dropout", "controlled_dropout",
            "drop_attention", "dropcluster", "dropin",
            "drop_neuron", "edropout", "energy_based_dropout", "evolutional_dropout",
            "explicit_dropout", "frequency_dropout", "groupwise_dropout",
            "guided_dropout", "hybrid_pooling_dropout", "ising_dropout", "localdrop",
            "multinomial_dropout", "selective_dropout", "shakeout", "sparseout",
            "spectral_dropout", "stochastic_activation_pruning",
            "stochastic_delta_rule", "surrogate_dropout", "tabu_dropout", "whiteout",
        ),
        _UNCHECKED,
    ),
}  # fmt: skip


def published(name: str) -> str:
    """Return what an error says about a published name, or "" for any other name.

    Case, `_` and `-` do not matter.
    """
    plain = {_plain(known): known for known in (*PLANS, *LEFT_OUT)}
    if _plain(name) not in plain:
        return ""
    known = plain[_plain(name)]
    if known in LEFT_OUT:
        return f"{known} is left out: {LEFT_OUT[known]}"
    return f"{known} is written as a plan such as {PLANS[known]!r}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
