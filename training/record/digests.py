"""Digests by which two runs are compared: of parameters, and of a probe of masks."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from dropout import VARIANTS, Moment, Row, Timeline, bind, kind_of, rows_at
from dropout.moment import Generator
from models.layers import pool_2x2
from training.data.splits import DataSet


def digest(tree: Any) -> str:
    """Return a SHA-256 over the names, shapes and bytes of a tree's arrays."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(jax.device_get(leaf))
        found.update(f"{jax.tree_util.keystr(path)}{array.shape}{array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def data_digest(data: DataSet) -> str:
    """Return a digest of the examples that a run is trained and tested on.

    For a split that is decoded as it is fetched, only the number of its examples and
    the mean of a sample count: decoding all of it would take longer than many runs.
    """
    sizes = np.array([data.train.size, data.test.size])
    return digest((data.train, data.test, data.mean, sizes))


def masks_digest(
    rows: tuple[Row, ...],
    timeline: Timeline,
    key: Key[Array, ""],
    run_key: Key[Array, ""] | None,
    bits: Generator,
) -> str:
    """Return a digest of what each site's rule makes of a fixed probe of ones.

    The probe is eight examples of shape 4x4x8 at half of the run.
    """
    step = timeline.total // 2
    epoch = step // timeline.steps_per_epoch
    moment = Moment(key, jnp.arange(8), epoch, step, run=run_key)
    starts = {
        row.site: {"start": jnp.zeros((8, 8))}
        for row in rows
        if VARIANTS[row.variant.name].needs_start
    }
    drop = bind(rows_at(rows, step, timeline), moment, "train", bits, starts)
    return digest({row.site: drop(row.site, *_probe(row.site)) for row in rows})


def _probe(site: str) -> tuple:
    ones = jnp.ones((8, 4, 4, 8))
    others = {
        "kernel": (jnp.ones((8, 8)), jnp.matmul),
        "window": (pool_2x2,),
        "state": (jnp.zeros_like(ones),),
        "branches": (jnp.zeros_like(ones),),
        "act": (jnp.negative,),
    }
    kind = kind_of(site)
    return (ones, *others[kind]) if kind in others else (ones,)
