"""Images spread over devices: each holds a part, and a step gathers from all."""

import re
from functools import partial

import jax
import numpy as np
import pytest
from variant_cases import QUICK

from training.data import sources
from training.data.spread import gather_images, spread_images
from training.record.digests import data_digest
from training.runtime.devices import make_mesh, replicated

MESH = make_mesh("data:3")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_batch_is_gathered_from_all_devices_by_one_operation(dtype):
    images = np.random.default_rng(0).normal(0, 99, (10, 5, 3, 2)).astype(dtype)
    spread = spread_images(MESH, images)
    held = [np.asarray(shard.data) for shard in spread.addressable_shards]
    assert [len(part) for part in held] == [4, 4, 4]
    np.testing.assert_array_equal(np.concatenate(held)[:10], images)
    ids = np.array([[9, 0, 4], [3, 3, 8]], np.int32)
    gather = jax.jit(partial(gather_images, MESH), compiler_options=QUICK)
    program = gather.lower(spread, jax.device_put(ids, replicated(MESH))).compile()
    found = program(spread, jax.device_put(ids, replicated(MESH)))
    np.testing.assert_array_equal(found, images[ids])
    assert found.dtype == dtype and found.sharding.spec == jax.P(None, "data")
    collectives = r" (all-reduce|all-gather|all-to-all|reduce-scatter|\w+-permute)\("
    assert re.findall(collectives, program.as_text()) == ["reduce-scatter"]


def test_one_device_holds_the_data_and_several_leave_them_on_the_host(monkeypatch):
    several = sources.load("digits", "", "")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    alone = sources.load("digits", "", "")
    assert isinstance(several.train.images, np.ndarray)
    assert isinstance(alone.train.images, jax.Array)
    assert data_digest(several) == data_digest(alone)  # A resumed run compares it.
    ids = np.array([[7, 1], [1, 0]], np.int32)
    for one, other in zip(several.train.fetch(ids), alone.train.fetch(ids)):
        np.testing.assert_array_equal(one, other)
