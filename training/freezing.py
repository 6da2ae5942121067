"""Parameters that stay as they are: all that `--train_only` does not name."""

from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from dropout.grammar import suggest
from training.network import Tree
from training.optimizer import TELEMETRY


def trained(params: Tree, patterns: str) -> Tree:
    """Return a tree that says which parameters are trained; without patterns, all.

    A pattern such as `block4/*/norm` matches the first segments of a path, so that
    `block4` stands for all of a block, and `dropout` for what variants learn.
    """
    wanted = [pattern.split("/") for pattern in patterns.split()]

    def is_trained(path: tuple, leaf: Any) -> bool:
        segments = [str(part.key) for part in path]
        return not wanted or any(
            len(parts) <= len(segments) and all(map(fnmatchcase, segments, parts))
            for parts in wanted
        )

    return jax.tree_util.tree_map_with_path(is_trained, params)


def check_patterns(params: Tree, patterns: str) -> None:
    """Raise ValueError for a pattern that matches no parameter."""
    for pattern in patterns.split():
        if not any(jax.tree.leaves(trained(params, pattern))):
            raise ValueError(
                f"--train_only: no parameter matches {pattern!r}"
                f"{suggest(pattern, params)}."
            )


def only_trained(
    optimizer: optax.GradientTransformation, patterns: str
) -> optax.GradientTransformation:
    """Return the optimiser for the trained parameters alone.

    It keeps no averages of the others, and a bound on the gradient's norm does not
    count them.
    """
    if not patterns:
        return optimizer

    def of_trained(params: Any) -> Any:
        return trained(params, patterns)

    return optax.masked(optimizer, of_trained)


def with_frozen(patterns: str, before: Tree, after: Tree) -> Tree:
    """Return the parameters after an update, those that are not trained as before.

    They are copied, and not updated by 0, which would change a -0.
    """
    if not patterns:
        return after
    choose = trained(before, patterns)
    return jax.tree.map(lambda new, *pair: pair[new], choose, before, after)


def without_gradient(params: Tree, patterns: str) -> Tree:
    """Return the parameters, with no gradient computed for those that stay."""
    if not patterns:
        return params
    stopped = jax.tree.map(
        lambda new, leaf: leaf if new else jax.lax.stop_gradient(leaf),
        trained(params, patterns),
        params,
    )
    # What telemetry sums is the gradient of its zeros.
    watched = {name: params[name] for name in params if name == TELEMETRY}
    return {**stopped, **watched}
