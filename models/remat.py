"""Modules whose activations are computed again in the backward pass, to save memory.

This is gradient checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear
Memory Cost"): of a module only the inputs are kept. Its masks are functions of keys,
and so are the same the second time.
"""

import functools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import jax
from flax import nnx

from dropout.deferred import Deferred, as_array
from dropout.grammar import suggest


def rematerialise(network: nnx.Module, patterns: str) -> None:
    """Let the modules that patterns match compute their activations again.

    Args:
        network: the network, which is changed.
        patterns: paths with wildcards, compared segment by segment, with spaces between
            them: `block*` is every block, `block*/conv1` the first layer in each.
    """
    for _, module in list(_matching(network, patterns)):
        module.__class__ = _again(type(module))


def check_remat(network: nnx.Module, patterns: str) -> None:
    """Raise ValueError for a pattern that matches no module of a network."""
    for pattern in patterns.split():
        if not any(_matching(network, pattern)):
            names = [path for path, _ in _modules(network)]
            raise ValueError(
                f"--remat: no module matches {pattern!r}{suggest(pattern, names)}."
            )


def _modules(network: nnx.Module) -> Iterator[tuple[str, Any]]:
    for path, module in nnx.iter_modules(network):
        if path and callable(module):
            yield "/".join(map(str, path)), module


def _matching(network: nnx.Module, patterns: str) -> Iterator[tuple[str, Any]]:
    wanted = [pattern.split("/") for pattern in patterns.split()]
    for path, module in _modules(network):
        parts = path.split("/")
        if any(
            len(parts) == len(each) and all(map(fnmatchcase, parts, each))
            for each in wanted
        ):
            yield path, module


@functools.cache
def _again(plain: type) -> type:
    """A class like `plain` whose calls keep their inputs alone."""

    def __call__(self: Any, *arguments: Any, **options: Any) -> Any:
        graph, stats, others = nnx.split(self, nnx.BatchStat, ...)

        @jax.checkpoint
        def call(stats: Any, others: Any) -> tuple[Any, Any]:
            # Variables can be changed only where they were made.
            own = nnx.merge(graph, stats, others, copy=True)
            output = plain.__call__(own, *arguments, **options)
            return _arrays(output), nnx.state(own, nnx.BatchStat)

        output, stats = call(stats, others)
        nnx.update(self, stats)
        return output

    body = {"__call__": __call__, "__annotations__": {}}
    body |= {"__module__": plain.__module__, "__qualname__": plain.__qualname__}
    return type(plain)(plain.__name__, (plain,), body)


def _arrays(output: Any) -> Any:
    return jax.tree.map(
        as_array, output, is_leaf=lambda leaf: isinstance(leaf, Deferred)
    )
