"""The defaults of flags, variants and schedules: a rerun of a short command needs them.

A default that changes, changes what `python train.py` does for everybody, so each is
written here once more; its change belongs into CHANGELOG.md.
"""

import inspect

import pytest

from dropout import SCHEDULES, VARIANTS
from training.config import FIELDS
from training.consistency import CONSISTENCIES
from training.data.augmentation import AUGMENTATIONS
from training.optimizer import LEARNING_RATES, OPTIMIZERS

FLAGS = {
    "dataset": "digits", "train_split": "train", "test_split": "test",
    "in_memory_bytes": 2**30, "loader_threads": 0, "loader_processes": 0,
    "train_examples": 0, "validation_examples": 0,
    "model": "cnn", "dropout": "fc:bernoulli:0.5", "dropout_schedule": "constant",
    "rate_factor": 1.0, "compute_dtype": "float32", "convolution": "auto",
    "bits": "hash", "augment": "none", "epochs": 20, "steps": 0, "batch_size": 64,
    "steps_per_call": 0, "microbatches": 1, "telemetry": False, "consistency": "none",
    "samples_per_step": 1, "dropout_learning_rate": 0.0, "optimizer": "adam",
    "learning_rate": 1e-3, "learning_rate_schedule": "constant",
    "learning_rate_batch": 0, "weight_decay": 0.0, "max_norm": 0.0, "clip_norm": 0.0,
    "ema": 0.0, "label_smoothing": 0.0, "seed": 0, "subset_seed": -1, "init_seed": -1,
    "data_seed": -1, "mask_seed": -1, "deterministic": False, "on_nan": "stop",
    "log_every": 0, "test_every": 0, "evaluate_train": True, "save_every": 0,
    "tracker": "tensorboard",
}  # fmt: skip
VARIANT_OPTIONS = {
    "nested": {"sizes": "all", "first": 0},
    "patch": {"prefix": 0},
    "dropblock": {"block_size": 7, "channels": "each", "mode": "extended"},
    "disout": {"block_size": 6, "alpha": 1.0},
    "cutout": {"length": 16},
    "random_erasing": {
        "smallest": 0.02, "largest": 0.4, "aspect": 0.3, "fill": "zero",
    },
    "erase": {"height": 1 / 3, "width": 1.0},
    "grid_mask": {"shortest": 8, "longest": 16, "ratio": 0.5, "drop": "squares"},
    "hide_and_seek": {"sizes": (0, 4, 8)},
    "adl": {"threshold": 0.8, "otherwise": "importance"},
    "jumpout": {"cap": 0.6, "power": 0.75},
    "masksembles": {"masks": 4},
    "kernel_dropout": {"drop": "element"},
    "mixout": {"drop": "element"},
    "targeted": {"target": 0.5, "drop": "weight"},
    "drop_path": {"skip": False},
    "layerdrop": {"skip": False},
    "rrelu": {"low": 1 / 8, "high": 1 / 3},
    "attention": {"heads": "each"},
    "concrete": {"temperature": 0.1, "length_scale": 1e-4},
    "spatial_concrete": {"temperature": 2 / 3, "length_scale": 1e-4},
    "l0_gate": {"weight": 1.0},
    "variational": {"share": "layer"},
    "standout": {"slope": 1.0},
}  # fmt: skip
SCHEDULE_OPTIONS = {
    "linear": {"start": 0.0, "end": 1.0},
    "decay": {"start": 0.0, "end": 1.0},
    "early": {"until": 0.5, "shape": "constant"},
    "late": {"start": 0.5, "shape": "constant"},
    "cyclic": {"period": 0.25},
    "exponential": {"decay": 5.0},
    "curriculum": {"gamma": 10.0},
    "step": {"every": 0.25, "by": 0.5},
    "piecewise": {"boundaries": (0.5,), "factors": (1.0, 0.0)},
    "product": {"of": ("linear(end=0.3)", "cosine")},
    "annealed": {"start": 0.0, "end": 1.0},
    "dropblock_ramp": {"start": 0.0, "end": 1.0},
    "scheduled_drop_path": {"start": 0.0, "end": 1.0},
}
PENALTY_OPTIONS = {
    "rdrop": {"alpha": 1.0},
    "fraternal": {"kappa": 0.1},
    "pi_model": {"weight": 1.0},
    "expectation_linear": {"weight": 1.0},
}
AUGMENTATION_OPTIONS = {
    "resized_crop": {
        "size": 224, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "test_share": 7 / 8,
    },
    "randaugment": {
        "count": 2, "magnitude": 9.0, "magnitude_std": 0.0, "probability": 0.5,
    },
    "color_jitter": {
        "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
    },
    "pad_crop": {"padding": 4},
    "mixup": {"alpha": 0.2},
    "cutmix": {"alpha": 1.0},
}  # fmt: skip
LEARNING_RATE_OPTIONS = {
    "constant": {"warmup": 0.0},
    "cosine": {"warmup": 0.05, "end": 0.0},
    "stepped": {"at": (0.5, 0.75), "factor": 0.1, "warmup": 0.0},
}
OPTIMIZER_OPTIONS = {
    "adam": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
    "adamw": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
    "sgd": {"momentum": 0.9, "nesterov": False},
    "lars": {"momentum": 0.9, "trust": 0.001},
    "lamb": {"b1": 0.9, "b2": 0.999, "eps": 1e-6},
}
# What is not named here, a new entry say, may have any default.
REGISTRIES = [
    ({name: entry.draw for name, entry in VARIANTS.items()}, VARIANT_OPTIONS),
    (SCHEDULES, SCHEDULE_OPTIONS),
    (CONSISTENCIES, PENALTY_OPTIONS),
    (AUGMENTATIONS, AUGMENTATION_OPTIONS),
    (LEARNING_RATES, LEARNING_RATE_OPTIONS),
    (OPTIMIZERS, OPTIMIZER_OPTIONS),
]
CASES = [
    pytest.param(registry[name], options, id=name)
    for registry, every in REGISTRIES
    for name, options in every.items()
]


def defaults(function):
    """The options of a function of a registry, which are its keywords."""
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_flags():
    assert {name: FIELDS[name].default for name in FLAGS} == FLAGS
    others = {name: FIELDS[name].default for name in FIELDS if name not in FLAGS}
    assert set(others.values()) == {""}, others


@pytest.mark.parametrize(("function", "options"), CASES)
def test_options(function, options):
    assert defaults(function) == options
