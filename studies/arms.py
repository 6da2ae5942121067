"""Arms of a study: configurations that differ in their plan or in any other flag."""

import hashlib
import shlex
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from dropout.grammar import lookup, split_outside
from training.canonical import canonical
from training.config import Config
from training.default_workdir import default_workdir
from training.flag_text import flag_lines, parse_value

STOPS = {
    "last": "the last step counts",
    "best_validation": "the step of lowest validation loss counts (early stopping)",
}


class Arm(NamedTuple):
    """A configuration to compare, whatever its seed, and the step that counts.

    Attributes:
        name: its name in tables.
        config: the canonical configuration.
        stop: one of `STOPS`.
        parts: its plan and its flags as they were given, of which its name is made.
    """

    name: str
    config: Config
    stop: str = "last"
    parts: tuple[str, str] = ("", "")


class Trial(NamedTuple):
    """One arm at one seed; `config` is for a run of its own, without a workdir."""

    arm: str
    config: Config
    stop: str

    @property
    def run(self) -> str:
        """Return the name of its run, a digest of everything that makes the run."""
        return default_workdir(self.config).rpartition("/")[2]


def parse_arms(base: Config, plans: str, arms: str) -> list[Arm]:
    """Return all combinations of the plans and the arms, in order.

    Args:
        base: the configuration that arms change.
        plans: plans separated by semicolons, `none; fc:bernoulli:0.5`; may be empty.
        arms: arms separated by semicolons, each a list of flags, with a name if wanted:
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
        check_printable("--arms", name)
        if names.count(name) > 1:
            raise ValueError(f"two arms are called {name!r}; expected different names.")
    return found


def check_printable(flag: str, text: str) -> None:
    """Check that a text is one line that a terminal and a page show as it is.

    Raises:
        ValueError: it has a character that is not printed, as one that moves a cursor.
    """
    if not text.isprintable():
        raise ValueError(f"{flag}={text!r}: expected printable characters in one line.")


def compared_arms(base: Config, plans: str, arms: str) -> list[Arm]:
    """Return the arms of a comparison; by default no dropout and the base's plan.

    Raises:
        ValueError: as in `parse_arms`, or there are fewer than two arms.
    """
    if not plans and not arms:
        plans = f"none; {base.dropout}"
    found = parse_arms(base, plans, arms)
    if len(found) < 2:
        raise ValueError("expected two arms or more: give --plans or --arms.")
    return found


def parse_versus(text: str, arms: list[Arm]) -> dict[str, str]:
    """Return, by the name of an arm, the name of the arm that it is compared with.

    Args:
        text: the name of an arm, with which all others are compared; or a plan, for the
            arm with this plan and the same other flags; or a name of flags, for the
            arm with these flags and the same plan; or empty for the first arm.
        arms: the arms of the study.

    Raises:
        ValueError: the text names none of these.
    """
    names = {arm.parts: arm.name for arm in arms}
    if not text or text in names.values():
        other = text or arms[0].name
        return {name: other for name in names.values() if name != other}
    given = [part for arm in arms for part in arm.parts if part]
    lookup("arm of --versus", text, dict.fromkeys([*names.values(), *given]))
    found = {}
    for (plan, flags), name in names.items():
        for block in ((text, flags), (plan, text)):
            if block in names and names[block] != name:
                found[name] = names[block]
    return found


def comparison_directory(arms: list[Arm]) -> str:
    """Return `runs/compare-<digest of the arms>`, whatever the seeds are."""
    text = "\n".join(f"{arm.name} {arm.stop} {flag_lines(arm.config)}" for arm in arms)
    return f"runs/compare-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def trials(arms: list[Arm], seeds: tuple[int, ...]) -> list[Trial]:
    """Return a trial for every arm and seed, ordered by seed."""
    return [
        Trial(arm.name, replace(arm.config, seed=seed), arm.stop)
        for seed in seeds
        for arm in arms
    ]


def _arm(base: Config, plan: tuple[str, dict], flags: tuple[str, dict]) -> Arm:
    values = {**plan[1], **flags[1]}
    stop = values.pop("stop", "last")
    lookup("stop", stop, STOPS)
    # The default workdir depends on the seed, so it cannot be part of an arm.
    config = replace(canonical(changed(base, values)), workdir="")
    if stop == "best_validation" and not config.validation_examples:
        raise ValueError(
            "--stop=best_validation: expected --validation_examples above 0."
        )
    parts = (plan[0], flags[0])
    name = " | ".join(part for part in parts if part)
    return Arm(name or config.dropout, config, stop, parts)


def changed(config: Config, values: dict[str, str]) -> Config:
    """Return the configuration with flags, given as text, in place of its own.

    Raises:
        ValueError: an unknown flag, or text that is not of its type.
    """
    given = {name: parse_value(name, text) for name, text in values.items()}
    return replace(config, **given)


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
    """Return the name and the flags of an arm; without a name, its flags name it."""
    names = [word for word in words if not word.startswith("--")]
    flags = [word for word in words if word.startswith("--")]
    for word in flags:
        if "=" not in word:
            raise ValueError(f"arm {' '.join(words)!r}: expected {word}=VALUE.")
    values = dict(word[2:].split("=", 1) for word in flags)
    return " ".join(names) or " ".join(flags), values
