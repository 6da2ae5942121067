"""The fields of `Config`: their defaults, and what the flags say of them."""

from dataclasses import field
from typing import Any

NEVER_STEPS = -1  # the number of steps between events that never happen
SAME_SEED = -1  # stands for the value of --seed


def option(
    default: Any,
    group: str,
    help: str,
    allowed: tuple = (),
    resumable: bool = False,
    period: bool = False,
) -> Any:
    """Return a field of `Config`: a number in a range, or a string among choices."""
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


def period(help: str) -> Any:
    """Return a field for the steps between two events of a run; 0 is an epoch."""
    return option(0, "record", help, (NEVER_STEPS, 10**12), True, True)


def own_seed(what: str) -> Any:
    """Return a field for a seed that takes the place of `seed` for one purpose."""
    help = f"seed for the {what} (-1: --seed)"
    return option(SAME_SEED, "optimisation", help, (SAME_SEED, 2**32 - 1))


def own_seeds(name: str) -> Any:
    """Return a field for the values of `name` in a population."""
    return option("", "optimisation", f"with --seeds: one --{name} per member")
