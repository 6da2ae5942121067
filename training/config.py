"""The configuration of a run: one frozen record, its checks, and its text."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dropout import parse
from dropout.grammar import check_options, lookup, parse_call
from models import check_model
from training.consistency import check_consistency
from training.data.augmentation import augmentations_text, parse_augmentations
from training.members import Member, parse_numbers, parse_seeds, seeds_text
from training.optimizer import LEARNING_RATES, OPTIMIZERS

NEVER = "never"
NEVER_STEPS = -1  # what `never` is as a number of steps
TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")  # as absl reads them


def _option(
    default: Any,
    group: str,
    help: str,
    allowed: tuple = (),
    resumable: bool = False,
    period: bool = False,
) -> Any:
    """A field of Config: a number with its range, or a string with its choices."""
    return field(
        default=default,
        metadata={
            "group": group,
            "help": help,
            "allowed": allowed,
            "resumable": resumable,
            "period": period,
        },
    )


def _period(help: str) -> Any:
    """A number of steps between two events of a run; 0 is an epoch."""
    return _option(0, "record", help, (NEVER_STEPS, 10**12), True, True)


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on; each field is a flag of `train.py`."""

    dataset: str = _option(
        "digits",
        "data",
        "digits, alice, path.npz, path.txt, or a prepared tensorflow-datasets name",
    )
    data_dir: str = _option(
        "",
        "data",
        "directory in which tensorflow-datasets prepared the data",
        resumable=True,
    )
    cache_dir: str = _option(
        "",
        "data",
        "directory of decoded data and compiled programs (default: the user's cache)",
        resumable=True,
    )
    train_examples: int = _option(
        0, "data", "number of training examples (0: all)", (0, 2**31)
    )
    validation_examples: int = _option(
        0, "data", "number of examples held out from training", (0, 2**31)
    )
    model: str = _option(
        "cnn", "model", "network with its options, e.g. 'mlp(widths=(1024, 1024))'"
    )
    dropout: str = _option(
        "fc:bernoulli:0.5",
        "dropout",
        "plan: rules sites:variant:rate[@schedule], separated by spaces; or none",
    )
    dropout_schedule: str = _option(
        "constant", "dropout", "schedule of the rules that name none"
    )
    rate_factor: float = _option(
        1.0, "dropout", "factor that multiplies every dropout rate", (0, 1e9)
    )
    compute_dtype: str = _option(
        "float32",
        "model",
        "type of activations, float32 or bfloat16; parameters stay float32",
        ("float32", "bfloat16"),
    )
    bits: str = _option(
        "hash",
        "dropout",
        "generator of the masks: hash, or jax for JAX's own",
        ("hash", "jax"),
    )
    augment: str = _option(
        "none",
        "data",
        "augmentations of training images, e.g. 'pad_crop(padding=4) flip "
        "mixup(alpha=0.2)'",
    )
    epochs: int = _option(
        20, "optimisation", "number of passes over the training data", (0, 10**9)
    )
    steps: int = _option(
        0, "optimisation", "number of optimiser steps, in place of epochs", (0, 10**12)
    )
    batch_size: int = _option(
        64, "optimisation", "examples in a batch, over all devices", (1, 2**31)
    )
    microbatches: int = _option(
        1, "optimisation", "parts in which a batch is processed", (1, 2**31)
    )
    telemetry: bool = _option(
        False, "dropout", "log what dropout does at each site that has a rule"
    )
    consistency: str = _option(
        "none",
        "dropout",
        "penalty on disagreement between draws: none or rdrop(alpha=1.0)",
    )
    samples_per_step: int = _option(
        1, "dropout", "number of draws of each example's masks in a step", (1, 2**10)
    )
    dropout_learning_rate: float = _option(
        0.0,
        "dropout",
        "learning rate for learned dropout (0: --learning_rate)",
        (0, 1e9),
    )
    optimizer: str = _option(
        "adam", "optimisation", "adam, adamw or sgd, with their options"
    )
    learning_rate: float = _option(
        1e-3, "optimisation", "highest learning rate", (0, 1e9)
    )
    learning_rate_schedule: str = _option(
        "constant",
        "optimisation",
        "constant, cosine(warmup=0.05) or stepped(at=(0.5,), factor=0.1)",
    )
    weight_decay: float = _option(
        0.0,
        "optimisation",
        "weight decay of kernels; decoupled for adamw, coupled for the others",
        (0, 1e9),
    )
    max_norm: float = _option(
        0.0,
        "optimisation",
        "bound on the norm of each unit's incoming weights (0: none)",
        (0, 1e9),
    )
    clip_norm: float = _option(
        0.0, "optimisation", "bound on the gradient's global norm (0: none)", (0, 1e9)
    )
    label_smoothing: float = _option(
        0.0, "optimisation", "share of a label spread over all classes", (0, 1)
    )
    seed: int = _option(
        0, "optimisation", "seed for parameters, data order and masks", (0, 2**32 - 1)
    )
    seeds: str = _option(
        "",
        "optimisation",
        "seeds of a population, one member each, trained together: 0:16 or 0,3,5",
    )
    rate_factors: str = _option(
        "", "dropout", "with --seeds: one --rate_factor per member, e.g. 0.5,1.0"
    )
    learning_rates: str = _option(
        "", "optimisation", "with --seeds: one --learning_rate per member"
    )
    weight_decays: str = _option(
        "", "optimisation", "with --seeds: one --weight_decay per member"
    )
    mesh: str = _option(
        "",
        "devices",
        "devices: data:N, or members:N with --seeds (default: all devices)",
        resumable=True,
    )
    deterministic: bool = _option(
        False, "devices", "repeat a run bit for bit on a GPU too, which is slower"
    )
    on_nan: str = _option(
        "stop",
        "optimisation",
        "what to do at a step that is not finite: stop, or skip it",
        ("stop", "skip"),
    )
    log_every: int = _period("steps between training lines, or never (0: an epoch)")
    test_every: int = _period(
        "steps between tests, or never before the last step (0: an epoch)"
    )
    save_every: int = _period(
        "steps between checkpoints, or never before the last step (0: an epoch)"
    )
    workdir: str = _option(
        "",
        "record",
        "directory of the run's record (default: runs/<data>-<model>-<digest>)",
        resumable=True,
    )


_FIELDS = {item.name: item for item in fields(Config)}


def canonical(config: Config) -> Config:
    """Return the checked configuration in canonical text, its default paths filled in.

    Raises:
        ValueError: a value that is not allowed; the message names it and what is.
    """
    for item in fields(config):
        _check_field(item.name, getattr(config, item.name), item.metadata["allowed"])
    if bool(config.steps) == bool(config.epochs):
        raise ValueError(
            f"--epochs={config.epochs} --steps={config.steps}: exactly one of them "
            "must be positive (give --epochs=0 with --steps)."
        )
    if config.batch_size % config.microbatches:
        raise ValueError(
            f"--microbatches={config.microbatches} does not divide "
            f"--batch_size={config.batch_size}."
        )
    if config.dropout_learning_rate and not config.learning_rate:
        raise ValueError(
            f"--dropout_learning_rate={config.dropout_learning_rate}: expected a "
            "positive --learning_rate beside it."
        )
    config = replace(config, **_canonical_calls(config))
    config = _canonical_members(config)
    cache_dir = config.cache_dir or str(_default_cache())
    return replace(
        config, cache_dir=cache_dir, workdir=config.workdir or default_workdir(config)
    )


def members_of(config: Config) -> tuple[Member, ...]:
    """Return the members of a population; a run without `--seeds` is its own only one.

    Raises:
        ValueError: a list that does not fit `--seeds`, or is given beside its flag.
    """
    seeds = parse_seeds(config.seeds) if config.seeds else (config.seed,)
    columns = [seeds, *(_column(config, f, len(seeds)) for f in Member._fields[1:])]
    return tuple(Member(*values) for values in zip(*columns, strict=True))


def with_members(config: Config, members: Sequence[Member]) -> Config:
    """The configuration of a population: a list for each flag in which it differs."""
    seeds, *columns = zip(*members)
    changes: dict[str, Any] = {"seed": 0, "seeds": seeds_text(seeds)}
    for name, values in zip(Member._fields[1:], columns):
        same = len(set(values)) == 1
        changes[name] = values[0] if same else _default(name)
        changes[f"{name}s"] = "" if same else ",".join(map(repr, map(float, values)))
    return replace(config, **changes)


def member_config(config: Config, member: Member) -> Config:
    """Return the configuration of a member's solo run."""
    lists = {f"{name}s": "" for name in Member._fields}
    return replace(config, **lists, **member._asdict())


def flag_lines(config: Config) -> str:
    """Return the configuration as an absl flagfile."""
    return "".join(f"--{name}={value}\n" for name, value in _texts(config).items())


def parse_flag_lines(text: str) -> Config:
    """Return the configuration that `flag_lines` wrote.

    Raises:
        ValueError: a line that is no flag of this version.
    """
    values = {}
    for line in text.splitlines():
        name, _, value = line.removeprefix("--").partition("=")
        if name not in _FIELDS:
            raise ValueError(f"flag --{name} is not one of this version's.")
        values[name] = parse_value(name, value)
    return Config(**values)


def parse_value(name: str, text: str) -> Any:
    """Return the value of a flag from its text, as absl reads it.

    Raises:
        ValueError: text that is not of the flag's type.
    """
    item = _FIELDS[name]
    kind = type(item.default)
    if item.metadata["period"] and text == NEVER:
        return NEVER_STEPS
    if kind is bool and text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    try:
        if kind is not bool:
            return kind(text)
    except ValueError:
        pass
    expected = "true or false" if kind is bool else kind.__name__
    if item.metadata["period"]:
        expected += f" or {NEVER}"
    raise ValueError(f"--{name}={text}: expected {expected}.")


def value_text(value: Any) -> str:
    """Return the text that `parse_value` reads."""
    return NEVER if value == NEVER_STEPS and isinstance(value, int) else str(value)


def differences(stored: Config, given: Config) -> list[str]:
    """The flags in which two configurations differ, of those that make the run."""
    old, new = _texts(stored), _texts(given)
    return [
        f"--{item.name} is {new[item.name]!r}, was {old[item.name]!r}"
        for item in fields(Config)
        if not item.metadata["resumable"] and old[item.name] != new[item.name]
    ]


def default_workdir(config: Config) -> str:
    """`runs/<dataset>-<model>-<digest of what makes the run>`."""
    parts = [
        f"{item.name}={getattr(config, item.name)}"
        for item in fields(config)
        if not item.metadata["resumable"]
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
    dataset = Path(config.dataset).stem.replace(":", "-")
    return f"runs/{dataset}-{parse_call(config.model).name}-{digest}"


def _column(config: Config, name: str, count: int) -> tuple[float, ...]:
    text = getattr(config, f"{name}s")
    if not text:
        return (getattr(config, name),) * count
    if not config.seeds:
        raise ValueError(f"--{name}s={text}: expected --seeds beside it.")
    return parse_numbers(f"{name}s", text, count)


def _canonical_members(config: Config) -> Config:
    members = members_of(config)
    for name in Member._fields:
        one, several = getattr(config, name), getattr(config, f"{name}s")
        if several and one != _default(name):
            raise ValueError(
                f"--{name}={one} --{name}s={several}: expected one of them."
            )
    for member in members:
        for name, value in member._asdict().items():
            _check_field(name, value, _FIELDS[name].metadata["allowed"])
    return with_members(config, members) if config.seeds else config


def _default(name: str) -> Any:
    return _FIELDS[name].default


def _texts(config: Config) -> dict[str, str]:
    return {
        item.name: value_text(getattr(config, item.name)) for item in fields(config)
    }


def _check_field(name: str, value, allowed: tuple) -> None:
    if isinstance(value, str):
        if allowed and value not in allowed:
            raise ValueError(f"--{name}={value}: expected {' or '.join(allowed)}.")
        if "\n" in value:
            raise ValueError(f"--{name}={value!r}: expected a single line.")
    elif allowed and not allowed[0] <= value <= allowed[1]:
        low, high = allowed
        raise ValueError(f"--{name}={value}: expected a number in [{low}, {high}].")


def _canonical_calls(config: Config) -> dict[str, str]:
    model = parse_call(config.model)
    check_model(model)
    augmentations = parse_augmentations(config.augment)
    consistency = parse_call(config.consistency)
    check_consistency(consistency)
    texts = {
        "model": str(model),
        "augment": augmentations_text(augmentations),
        "consistency": str(consistency),
    }
    for name, kind, registry in (
        ("optimizer", "optimizer", OPTIMIZERS),
        ("learning_rate_schedule", "learning-rate schedule", LEARNING_RATES),
    ):
        call = parse_call(getattr(config, name))
        check_options(kind, call, lookup(kind, call.name, registry))
        texts[name] = str(call)
    plan = parse(config.dropout, config.dropout_schedule)
    return {**texts, "dropout": str(plan), "dropout_schedule": "constant"}


def _default_cache() -> Path:
    home = os.environ["XDG_CACHE_HOME"] if "XDG_CACHE_HOME" in os.environ else ""
    return Path(home or Path.home() / ".cache") / "dropout-laboratory"
