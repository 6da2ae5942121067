"""Members of a population: the flags in which they differ, and their text.

`training.run.train_population(config, members, workdir)` trains them together.
"""

from collections.abc import Sequence
from typing import NamedTuple

MOST = 4096


class Member(NamedTuple):
    """One run of a population; each field is a flag of `train.py`."""

    seed: int
    rate_factor: float
    learning_rate: float
    weight_decay: float


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in `0:16` (16 is not one of them), `0,3,5` or `0:4,8`.

    Raises:
        ValueError: `text` has another form, or a range without a seed.
    """
    parts = [part.strip().split(":") for part in text.split(",")]
    if not all(
        len(part) <= 2 and all(bound.isdecimal() for bound in part) for part in parts
    ):
        raise ValueError(
            f"--seeds={text}: expected START:STOP, as in 0:16, or seeds with commas "
            "between them, as in 0,3,5."
        )
    ranges = [range(int(part[0]), int(part[-1]) + (len(part) == 1)) for part in parts]
    if not all(ranges):
        raise ValueError(f"--seeds={text}: expected START:STOP with START < STOP.")
    if sum(map(len, ranges)) > MOST:
        raise ValueError(f"--seeds={text}: expected at most {MOST} seeds.")
    return tuple(seed for seeds in ranges for seed in seeds)


def seeds_text(seeds: Sequence[int]) -> str:
    """The text that `parse_seeds` reads, short where the seeds are consecutive."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}:{seeds[-1] + 1}"
    return ",".join(map(str, seeds))


def parse_numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    """One number for each of `count` members, with commas between them.

    Raises:
        ValueError: as many are not there, or one is no number.
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
