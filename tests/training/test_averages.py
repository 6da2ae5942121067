"""The moving average of the parameters, against its formula and over a resumed run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import train

from training.averages import at_average, averaging, begun_average
from training.record.metrics_log import read_metrics
from training.restore import restore
from training.state import Batch, State, Totals

KEEP = 0.75


def state_of(weights):
    zero = jnp.zeros(())
    params, stats = {"w": jnp.asarray(weights)}, {"mean": jnp.asarray(2 * weights)}
    average = begun_average(params, stats, KEEP)
    return State(zero, zero, params, stats, (), Totals(zero, zero, zero), {}, average)


def test_it_is_the_weighted_sum_of_what_every_finite_step_left():
    weights = np.linspace(-3, 5, 12, dtype=np.float32).reshape(6, 2)
    finite = np.array([True, True, False, True, True])

    def step(state, batch, key):
        at = state.step.astype(jnp.int32)
        new = jnp.where(finite[at], jnp.asarray(weights)[at + 1], state.params["w"])
        after = state._replace(step=state.step + 1, params={"w": new})
        return after._replace(stats={"mean": 2 * new}), {
            "finite": jnp.asarray(finite)[at]
        }

    moved = averaging(step, jnp.float32(1 - KEEP))
    state = state_of(weights[0])
    batch = Batch(*(jnp.zeros(1),) * 4)
    for _ in range(5):
        state, _ = moved(state, batch, jax.random.key(0))
    # The sum over steps in float64: each newer one weighs 1/4, older ones 3/4 of that.
    kept = weights[[0, 1, 2, 4, 5]].astype(np.float64)
    shares = np.array([KEEP**4, *(0.25 * KEEP ** np.arange(3, -1, -1))])
    expected = shares @ kept
    np.testing.assert_allclose(state.average["params"]["w"], expected, rtol=1e-6)
    np.testing.assert_allclose(state.average["stats"]["mean"], 2 * expected, rtol=1e-6)
    assert at_average(state).params is state.average["params"]


@pytest.fixture(scope="module")
def averaged(small, tmp_path_factory):
    """A finished run with an average: its configuration, workdir and summary."""
    workdir = tmp_path_factory.mktemp("averages") / "run"
    config = replace(
        small, model="mlp(widths=(4,))", dropout="*:bernoulli:0.2", ema=KEEP
    )
    return config, workdir, train(config, workdir)


@pytest.mark.slow
def test_a_run_trains_as_without_it_and_evaluates_both(averaged, tmp_path):
    config, workdir, summary = averaged
    plain = train(replace(config, ema=0.0), tmp_path)
    assert plain["params_digest"] == summary["params_digest"]
    assert plain["test_loss"] == summary["test_loss"] != summary["test_ema_loss"]
    tests = [line for line in read_metrics(workdir) if line["split"] == "test"]
    assert tests[-1]["ema_loss"] == summary["test_ema_loss"]
    assert all(abs(line["ema_loss"] - line["loss"]) < 1 for line in tests)


@pytest.mark.slow
def test_a_resumed_run_and_a_member_have_the_same_average(averaged, tmp_path):
    config, workdir, _ = averaged
    _, expected = restore(str(workdir))
    train(replace(config, seeds="0:2"), tmp_path / "two")
    of_members = restore(str(tmp_path / "two"))[1].average
    for mine, its in zip(*map(jax.tree.leaves, (of_members, expected.average))):
        np.testing.assert_allclose(mine[0], its, atol=1e-5)
    (workdir / "summary.json").unlink()
    (workdir / "checkpoints" / "16").rename(tmp_path / "16")
    train(config, workdir)
    for mine, its in zip(*map(jax.tree.leaves, (restore(str(workdir))[1], expected))):
        np.testing.assert_array_equal(mine, its)
