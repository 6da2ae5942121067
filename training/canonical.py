"""The checks of a configuration, and its canonical text."""

import os
import unicodedata
from dataclasses import fields, replace
from pathlib import Path

from dropout import parse
from dropout.grammar import check_options, lookup, parse_call
from models import MODELS, check_model
from training.config import FIELDS, Config
from training.consistency import check_consistency
from training.data.augmentation import augmentations_text, parse_augmentations
from training.default_workdir import default_workdir
from training.members import Member, members_of, with_members
from training.optimizer import LEARNING_RATES, OPTIMIZERS
from training.own_files import load_plugins
from training.record.profile import parse_profile
from training.record.trackers import parse_trackers, trackers_text


def canonical(config: Config) -> Config:
    """Return the checked configuration in canonical text, its default paths filled in.

    Raises:
        ValueError: a value that is not allowed; the message names it and what is.
    """
    for item in fields(config):
        _check_field(item.name, getattr(config, item.name), item.metadata["allowed"])
    load_plugins(config.plugins)
    parse_profile(config.profile)
    _check_together(config)
    config = replace(config, **_canonical_calls(config))
    config = _canonical_members(config)
    return replace(
        config,
        cache_dir=config.cache_dir or str(_default_cache()),
        workdir=config.workdir or default_workdir(config),
    )


def _check_together(config: Config) -> None:
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


def _canonical_members(config: Config) -> Config:
    members = members_of(config)
    for name in Member._fields:
        one, several = getattr(config, name), getattr(config, f"{name}s")
        if several and one != FIELDS[name].default:
            raise ValueError(
                f"--{name}={one} --{name}s={several}: expected one of them."
            )
    for member in members:
        for name, value in member._asdict().items():
            _check_field(name, value, FIELDS[name].metadata["allowed"])
    return with_members(config, members) if config.seeds else config


def _check_field(name: str, value, allowed: tuple) -> None:
    if isinstance(value, str):
        if allowed and value not in allowed:
            raise ValueError(f"--{name}={value}: expected {' or '.join(allowed)}.")
        if any(map(_breaks_text, value)):
            raise ValueError(
                f"--{name}={value!r}: expected a single line, without control "
                "characters."
            )
    elif allowed and not allowed[0] <= value <= allowed[1]:
        low, high = allowed
        raise ValueError(f"--{name}={value}: expected a number in [{low}, {high}].")


def _breaks_text(character: str) -> bool:
    """Whether it ends a line somewhere, steers a terminal, or is no UTF-8."""
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") and character != "\t"


def _canonical_calls(config: Config) -> dict[str, str]:
    name, _, _ = config.model.partition("(")
    if "." in name and ":" not in name:
        raise ValueError(
            f"--model={config.model}: expected {', '.join(MODELS)}, or for one of your "
            "own package.module:Name, with a colon."
        )
    model = parse_call(config.model)
    check_model(model)
    augmentations = parse_augmentations(config.augment)
    consistency = parse_call(config.consistency)
    check_consistency(consistency)
    texts = {
        "model": str(model),
        "augment": augmentations_text(augmentations),
        "consistency": str(consistency),
        "tracker": trackers_text(parse_trackers(config.tracker)),
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
    try:
        return Path(home or Path.home() / ".cache") / "dropout-laboratory"
    except RuntimeError:  # A container whose user has no name and no HOME.
        raise ValueError(
            "--cache_dir is empty, and this user has no home directory to put it in; "
            "expected --cache_dir=DIRECTORY."
        ) from None
