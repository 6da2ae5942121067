"""Telemetry: figures beside what NumPy makes of the same tensors, and free when off."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import train
from test_step import ALL, batch_of, objective, state_at
from variant_cases import QUICK

from dropout import Moment, bind, rows_at
from training.canonical import canonical
from training.data.batches import batches_from
from training.experiment import prepare
from training.start import start_state
from training.step import accumulate, make_train_step
from training.telemetry import WATCHED_ROWS, empty_sums, figures, with_zeros

KEY = jax.random.key(9)
CHANNELS = (("fc", 7),)


@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_figures_are_those_of_the_tensors_themselves(parts):
    """Of the first rows of each micro-batch together."""
    goal, state = objective("fc:bernoulli:0.5"), state_at(5)
    table = state.params["table"]["kernel"].at[:, 2].set(0.0)
    params = with_zeros({"table": {"kernel": table}}, empty_sums(CHANNELS))
    step = jax.jit(accumulate, static_argnums=0, compiler_options=QUICK)
    gradient, *_ = step(goal, state._replace(params=params), batch_of(ALL, parts), KEY)
    found = {k: float(v) for k, v in figures(gradient["telemetry"]).items()}
    drop = bind(
        rows_at(goal.rows, 5, goal.timeline), Moment(KEY, jnp.asarray(ALL), 0, 5)
    )  # fmt: skip
    rows = ALL.reshape(parts, -1)[:, :WATCHED_ROWS].reshape(-1)
    x, y = (np.asarray(a, np.float64)[rows] for a in (table, drop("fc", table)))
    p = np.exp(y) / np.exp(y).sum(-1, keepdims=True)
    error = p - np.eye(7)[rows % 7]
    expected = {
        "drop_rate/fc": (y[x != 0] == 0).mean(),
        "mean_ratio/fc": y.mean() / x.mean(),
        "variance_ratio/fc": y.var() / x.var(),
        "dead_channels/fc": 1 / 7,
        "gradient_norm/fc": np.sqrt((error**2).sum(-1).mean()),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
def test_the_trained_parameters_do_not_depend_on_being_watched(small, tmp_path):
    plain, seen = (
        train(replace(small, epochs=1, telemetry=on), tmp_path / str(on))
        for on in (False, True)
    )
    assert plain["train_loss"] == pytest.approx(seen["train_loss"], rel=1e-4)


def test_off_the_lowered_program_is_that_of_a_step_without_it(small, tmp_path):
    """The step with telemetry's functions replaced by none at all has the same text."""
    config = replace(
        small, model="mlp(widths=(4,))", dropout="*:bernoulli:0.2",
        workdir=str(tmp_path),
    )  # fmt: skip
    experiment = prepare(canonical(config))
    state, batch = start_state(experiment), next(batches_from(experiment, 0))

    def text():
        step = make_train_step(
            experiment.objective, experiment.optimizer, 0.0, lambda: None
        )
        return jax.jit(step).lower(state, batch, KEY).as_text()

    as_it_is = text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.objective.watch", lambda drop, zeros: drop)
        patch.setattr("training.step.with_zeros", lambda params, sums: params)
        patch.setattr("training.step.zeros_of", lambda params: {})
        patch.setattr("training.objective.zeros_of", lambda params: {})
        patch.setattr("training.step.without_zeros", lambda params: params)
        assert text() == as_it_is
    experiment = prepare(canonical(replace(config, telemetry=True)))
    state = start_state(experiment)
    assert text() != as_it_is
