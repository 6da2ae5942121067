"""Steps in one call: the batches are those of the host, and any cut gives the same."""

import signal
from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import train

from training import loop
from training.calls import most_steps
from training.canonical import canonical
from training.data.batches import make_batch
from training.data.resident import gather_batch, ordering, resident
from training.data.splits import RecordSplit
from training.experiment import prepare
from training.programs import compile_programs
from training.record.metrics_log import read_metrics
from training.restore import restore
from training.runtime.signals import Stopped
from training.start import start_state


@pytest.fixture(scope="module")
def quick(small):
    """A network that compiles quickly; four steps an epoch, twelve in all."""
    return replace(small, model="mlp(widths=(4,))", dropout="*:bernoulli:0.2", epochs=3)


def assert_equal(first, second):
    """Bit for bit, keys included."""
    for one, other in zip(*map(jax.tree.leaves, (first, second)), strict=True):
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = map(jax.random.key_data, (one, other))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"mesh": "data:5"},  # of whose 25 rows one is padding
        pytest.param(
            {"mesh": "data:3", "microbatches": 4, "augment": "flip cutmix"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"mesh": "members:2", "seeds": "0:2", "data_seeds": "4:6"}
            | {"augment": "mixup"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_a_gathered_batch_is_the_one_that_the_host_makes(quick, changes):
    experiment = prepare(canonical(replace(quick, train_examples=50, **changes)))
    data = resident(experiment)
    order = ordering(experiment)(data, 1)
    gather = jax.jit(partial(gather_batch, experiment))
    assert order.shape == (2, *experiment.train_ids.shape[:-1], 24)
    found = gather(data, order[1], jnp.int32(1))
    assert_equal(found, make_batch(experiment, np.asarray(order[1]), 1))
    assert found.images.sharding.is_fully_replicated == (experiment.mesh.size == 1)


@pytest.fixture(scope="module")
def programs(quick):
    """The programs of a run that takes several steps in a call, compiled once."""
    experiment = prepare(canonical(replace(quick, steps_per_call=8)))
    state = start_state(experiment)
    return experiment, *compile_programs(experiment, state)


def steps_cut_at(programs, cuts):
    """The state after the steps between cuts, a call each, and all their metrics."""
    experiment, compiled, _ = programs
    state, parts = start_state(experiment), []
    for done, end in pairwise(cuts):
        state, metrics = compiled.train(state, done, end - done)
        parts.append(jax.tree.map(lambda m, n=end - done: np.asarray(m)[:n], metrics))
    return state, jax.tree.map(lambda *each: np.concatenate(each), *parts)


def test_any_cut_into_calls_gives_the_same_bits(programs):
    whole = steps_cut_at(programs, (0, 4, 8))
    assert whole[1]["loss"].shape == (8,) and whole[1]["finite"].all()
    assert len(set(whole[1]["loss"].tolist())) == 8
    assert int(whole[0].step) == 8
    for cuts in (range(9), (0, 1, 4, 6, 7, 8)):
        assert_equal(steps_cut_at(programs, cuts), whole)
    assert len(programs[2]) == 1  # One trace, and so one compilation, for all of them.


def test_calls_end_where_an_epoch_or_the_steps_end(programs):
    experiment, compiled, _ = programs
    taken, state = [], start_state(experiment)

    def train(state, done, count):
        taken.append((done, count))
        return compiled.train(state, done, count)

    watched = compiled._replace(train=train, most_steps=3)
    seen = []
    loop.advance(
        watched, experiment.timeline, state, 10, lambda: False,
        lambda *call: seen.append(call[:2]),
    )  # fmt: skip
    assert taken == [(0, 3), (3, 1), (4, 3), (7, 1), (8, 2)] == seen


class NoRecords:
    def __len__(self):
        return 0

    def __getitems__(self, rows):
        return []


def test_data_that_are_streamed_have_one_step_in_a_call(quick):
    experiment = prepare(canonical(replace(quick, steps_per_call=8)))
    streamed = RecordSplit(NoRecords(), (10, 10, 1), 3)
    experiment = experiment._replace(data=replace(experiment.data, train=streamed))
    with pytest.raises(ValueError, match="--steps_per_call=8.*expected 0 or 1"):
        most_steps(experiment)


@pytest.fixture(scope="module")
def looped(quick, tmp_path_factory):
    """A finished run of several steps in a call: its workdir and its summary."""
    workdir = tmp_path_factory.mktemp("calls") / "looped"
    config = replace(quick, steps_per_call=8, log_every=3)
    return config, workdir, train(config, workdir)


@pytest.mark.slow
def test_a_loop_is_the_run_without_it_but_for_rounding(looped, tmp_path):
    config, workdir, summary = looped
    single = train(replace(config, steps_per_call=0), tmp_path)
    assert (summary["step_program"], summary["steps_per_call"]) == ("loop", 8)
    assert (single["step_program"], single["steps_per_call"]) == ("single", 1)
    assert summary["masks_digest"] == single["masks_digest"]
    losses = [[x["loss"] for x in read_metrics(each)] for each in (workdir, tmp_path)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_the_number_of_steps_in_a_call_and_a_stop_change_no_bit(
    looped, tmp_path, monkeypatch
):
    config, workdir, summary = looped
    other = train(replace(config, steps_per_call=2), tmp_path / "two")
    assert other["params_digest"] == summary["params_digest"]
    plain = loop._stops_after

    def stops(call, signals):
        if call == 2:
            signals.append(signal.SIGTERM)
        return plain(call, signals)

    monkeypatch.setattr(loop, "_stops_after", stops)
    with pytest.raises(Stopped, match="after step 4,"):
        train(config, tmp_path / "stopped")
    monkeypatch.undo()
    train(config, tmp_path / "stopped")
    for name in ("two", "stopped"):
        assert_equal(restore(str(tmp_path / name))[1], restore(str(workdir))[1])
        texts = [(w / "metrics.jsonl").read_text() for w in (workdir, tmp_path / name)]
        assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_named_within_a_call(quick, tmp_path):
    arrays = {**np.load(quick.dataset)}
    images = arrays.pop("train_images").astype(np.float32)
    images[7, 3, 3] = np.nan
    np.savez(tmp_path / "holes.npz", train_images=images, **arrays)
    config = replace(quick, dataset=str(tmp_path / "holes.npz"))
    said = []
    for steps in (1, 4):
        with pytest.raises(FloatingPointError) as raised:
            train(replace(config, steps_per_call=steps), tmp_path / str(steps))
        said.append(str(raised.value))
    assert said[0] == said[1] and "the images of [7]" in said[0]
    skipping = replace(config, steps_per_call=4, on_nan="skip")
    assert train(skipping, tmp_path / "skip")["skipped"] == 3


@pytest.mark.slow
def test_a_member_is_its_solo_run_in_calls_of_several_steps(looped, tmp_path):
    config, workdir, summary = looped
    both = train(replace(config, seeds="3,0"), tmp_path)
    assert both["members"][1]["masks_digest"] == summary["masks_digest"]
    np.testing.assert_allclose(
        both["members"][1]["test_loss"], summary["test_loss"], rtol=1e-4
    )
