"""Arms of a comparison: configurations by plan, or by any flags, and their seeds."""

import shlex
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from dropout.grammar import lookup, split_outside
from training.config import (
    Config,
    canonical,
    default_workdir,
    flag_lines,
    parse_flag_lines,
)

STOPS = {
    "last": "the last step counts",
    "best_validation": "the step of lowest validation loss counts: early stopping",
}


class Arm(NamedTuple):
    """What is compared: a configuration, whatever its seed, and the step that counts.

    Attributes:
        name: what tables call it.
        config: canonical.
        stop: one of `STOPS`.
    """

    name: str
    config: Config
    stop: str = "last"


class Trial(NamedTuple):
    """One arm at one seed; `config` is that of its solo run, its workdir left out."""

    arm: str
    config: Config
    stop: str

    @property
    def run(self) -> str:
        """The name of its run: of all that makes it, and nothing else."""
        return default_workdir(self.config).rpartition("/")[2]


def parse_arms(base: Config, plans: str, arms: str) -> list[Arm]:
    """All combinations of the plans and the arms, in order, with other flags of `base`.

    Args:
        base: the configuration that arms change.
        plans: with semicolons between them, `none; fc:bernoulli:0.5`; may be empty.
        arms: flags with semicolons between them, after a name if wanted:
            `plain --weight_decay=0; decay --weight_decay=1e-4 --stop=best_validation`;
            may be empty. Values with spaces or semicolons are quoted as in a shell.

    Raises:
        ValueError: text that is not of this form, a flag that does not exist, a value
            that is not allowed, or two arms of one name.
    """
    by_plan = [(text.strip(), {"dropout": text.strip()}) for text in _split(plans)]
    by_flags = [_parse_flags(words) for words in _split_words(arms)]
    found = [
        _arm(base, plan, flags)
        for plan, flags in product(by_plan or [("", {})], by_flags or [("", {})])
    ]
    names = [arm.name for arm in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two arms are called {name!r}; expected different names.")
    return found


def trials(arms: list[Arm], seeds: tuple[int, ...]) -> list[Trial]:
    """Every arm at every seed, seed by seed."""
    return [
        Trial(arm.name, replace(arm.config, seed=seed), arm.stop)
        for seed in seeds
        for arm in arms
    ]


def _arm(base: Config, plan: tuple[str, dict], flags: tuple[str, dict]) -> Arm:
    values = {**plan[1], **flags[1]}
    stop = values.pop("stop", "last")
    lookup("stop", stop, STOPS)
    # Where a run lies follows from its seed too, and is no part of an arm.
    config = replace(canonical(changed(base, values)), workdir="")
    if stop == "best_validation" and not config.validation_examples:
        raise ValueError(
            "--stop=best_validation: expected --validation_examples above 0."
        )
    name = " | ".join(part for part in (plan[0], flags[0]) if part)
    return Arm(name or config.dropout, config, stop)


def changed(config: Config, values: dict[str, str]) -> Config:
    """The configuration with flags, given as text, in place of its own.

    Raises:
        ValueError: an unknown flag, or text that is not of its type.
    """
    for name, value in values.items():
        try:
            config = parse_flag_lines(f"{flag_lines(config)}--{name}={value}\n")
        except ValueError as error:
            raise ValueError(f"--{name}={value}: {error}") from None
    return config


def _split(text: str) -> list[str]:
    return [part for part in split_outside(text, ";") if part.strip()]


def _split_words(text: str) -> list[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    groups: list[list[str]] = [[]]
    for word in lexer:
        if word == ";":
            groups.append([])
        else:
            groups[-1].append(word)
    return [group for group in groups if group]


def _parse_flags(words: list[str]) -> tuple[str, dict[str, str]]:
    """The name and the flags of an arm; without a name, its flags are its name."""
    names = [word for word in words if not word.startswith("--")]
    flags = [word for word in words if word.startswith("--")]
    for word in flags:
        if "=" not in word:
            raise ValueError(f"arm {' '.join(words)!r}: expected {word}=VALUE.")
    values = dict(word[2:].split("=", 1) for word in flags)
    return " ".join(names) or " ".join(flags), values
