"""Members of a population: the flags in which they differ, and their text.

`training.run.train_population(config, members, workdir)` trains them together.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from training.config import FIELDS, Config
from training.options import SAME_SEED

MOST = 4096
SEED = re.compile("[0-9]{1,4000}")  # Python reads no more digits than 4,300.


class Member(NamedTuple):
    """One run of a population; each field is a flag of `train.py`."""

    seed: int
    rate_factor: float
    learning_rate: float
    weight_decay: float
    subset_seed: int = SAME_SEED
    init_seed: int = SAME_SEED
    data_seed: int = SAME_SEED
    mask_seed: int = SAME_SEED


OWN_SEEDS = ("subset_seed", "init_seed", "data_seed", "mask_seed")


def members_of(config: Config) -> tuple[Member, ...]:
    """Return the members of a population; a run without `--seeds` has one, itself.

    Raises:
        ValueError: a list does not fit `--seeds`, or is given together with its flag.
    """
    seeds = parse_seeds(config.seeds) if config.seeds else (config.seed,)
    columns = [seeds, *(_column(config, f, len(seeds)) for f in Member._fields[1:])]
    return tuple(Member(*values) for values in zip(*columns, strict=True))


def with_members(config: Config, members: Sequence[Member]) -> Config:
    """Return the configuration of a population: a list for each flag that differs."""
    seeds, *columns = zip(*members)
    changes: dict[str, Any] = {"seed": 0, "seeds": seeds_text(seeds)}
    for name, values in zip(Member._fields[1:], columns):
        same = len(set(values)) == 1
        changes[name] = values[0] if same else FIELDS[name].default
        changes[f"{name}s"] = "" if same else _column_text(name, values, seeds)
    return replace(config, **changes)


def own_seed(member: Member | Config, name: str) -> int:
    """Return a seed of `OWN_SEEDS`, which is the run's seed where none is given."""
    value = getattr(member, name)
    return member.seed if value == SAME_SEED else value


def member_config(config: Config, member: Member) -> Config:
    """Return the configuration of a member's solo run."""
    lists = {f"{name}s": "" for name in Member._fields}
    return replace(config, **lists, **member._asdict())


def parse_seeds(text: str, flag: str = "seeds") -> tuple[int, ...]:
    """Return the seeds in `0:16` (16 is not one of them), `0,3,5` or `0:4,8`.

    Raises:
        ValueError: `text` has another form, or a range without a seed.
    """
    parts = [part.strip().split(":") for part in text.split(",")]
    if not all(len(part) <= 2 and all(map(SEED.fullmatch, part)) for part in parts):
        raise ValueError(
            f"--{flag}={text}: expected START:STOP, as in 0:16, or seeds with commas "
            "between them, as in 0,3,5."
        )
    bounds = [(int(part[0]), int(part[-1]) + (len(part) == 1)) for part in parts]
    if not all(start < stop for start, stop in bounds):
        raise ValueError(f"--{flag}={text}: expected START:STOP with START < STOP.")
    if sum(stop - start for start, stop in bounds) > MOST:
        raise ValueError(f"--{flag}={text}: expected at most {MOST} seeds.")
    return tuple(seed for start, stop in bounds for seed in range(start, stop))


def seeds_text(seeds: Sequence[int]) -> str:
    """Return the text that `parse_seeds` reads, a range where that suffices."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}:{seeds[-1] + 1}"
    return ",".join(map(str, seeds))


def parse_numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    """Return one number for each of `count` members, from text with commas.

    Raises:
        ValueError: another count of numbers, or text that is no number.
    """
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        raise ValueError(
            f"--{flag}={text}: expected numbers with commas between them."
        ) from None
    if len(numbers) != count:
        raise ValueError(
            f"--{flag}={text}: {len(numbers)} numbers for {count} members; expected "
            "one for each of --seeds."
        )
    return numbers


def _column_text(name: str, values: Sequence[int | float], seeds: Sequence[int]) -> str:
    if name not in OWN_SEEDS:
        return ",".join(map(repr, map(float, values)))
    # A list holds seeds alone, so those that are not given are written out.
    pairs = zip(values, seeds)
    return seeds_text([seed if own == SAME_SEED else int(own) for own, seed in pairs])


def _column(config: Config, name: str, count: int) -> tuple[int | float, ...]:
    text = getattr(config, f"{name}s")
    if not text:
        return (getattr(config, name),) * count
    if not config.seeds:
        raise ValueError(f"--{name}s={text}: expected --seeds beside it.")
    if name not in OWN_SEEDS:
        return parse_numbers(f"{name}s", text, count)
    found = parse_seeds(text, f"{name}s")
    if len(found) != count:
        raise ValueError(
            f"--{name}s={text}: {len(found)} seeds for {count} members; expected one "
            "for each of --seeds."
        )
    return found
