"""Several draws in a step: their keys, their mean, R-Drop, and the trunk they share."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from test_step import ALL, CLASSES, batch_of, objective, state_at
from variant_cases import QUICK

from dropout.grammar import Call, parse_call
from training.canonical import canonical
from training.config import Config
from training.consistency import (
    check_consistency,
    draws_of,
    expectation_linear,
    fraternal,
    pi_model,
    rdrop,
)
from training.data.batches import batches_from
from training.experiment import prepare
from training.objective import cross_entropy, summed_loss

PLAN = "fc:bernoulli:0.5"
KEY = jax.random.key(9)
RDROP = Call("rdrop", (("alpha", 0.7),))


def loss_and_gradient(goal, table=None):
    """The summed loss and its gradient in each example's row of parameters."""
    state = state_at(5)
    params = state.params if table is None else {"table": {"kernel": table}}
    part = jax.tree.map(lambda leaf: leaf[0], batch_of(ALL))

    def loss(params):
        return summed_loss(goal, params, {}, state.step, part, KEY)[0]

    compiled = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)
    value, gradient = compiled(params)
    return float(value), np.asarray(gradient["table"]["kernel"])


def dropped_logits(draws):
    """The logits of each draw, masked by hand with the keys that the design names."""
    from dropout import Moment, bind, rows_at

    goal, state = objective(PLAN), state_at(5)
    rows = rows_at(goal.rows, state.step, goal.timeline)
    moments = [Moment(KEY, jnp.asarray(ALL), 0, 5, draw) for draw in range(draws)]
    table = state.params["table"]["kernel"]
    return jnp.stack([bind(rows, m)("fc", table) for m in moments])


def by_hand(draws, alpha):
    """The mean cross-entropy of the draws, and alpha times their mean divergence."""
    logits = dropped_logits(draws)
    log_p = np.float64(jax.nn.log_softmax(logits))
    picked = log_p[:, ALL, ALL % CLASSES]
    pairs = [(i, j) for i in range(draws) for j in range(draws) if i != j]
    apart = [(np.exp(log_p[i]) * (log_p[i] - log_p[j])).sum(-1).sum() for i, j in pairs]
    return -picked.sum(1).mean() + alpha * np.mean(apart)


@pytest.mark.parametrize("draws", [2, 3])
@pytest.mark.parametrize("call", [Call("none"), RDROP], ids=str)
def test_the_loss_is_that_of_draws_by_hand(draws, call):
    goal = objective(PLAN)._replace(draws=draws, consistency=call)
    alpha = dict(call.options)["alpha"] if call.options else 0.0
    assert loss_and_gradient(goal)[0] == pytest.approx(by_hand(draws, alpha), rel=1e-5)


def test_the_first_draw_is_the_mask_of_ordinary_training():
    goal = objective(PLAN)
    single = cross_entropy(dropped_logits(1)[0], jnp.asarray(ALL % CLASSES), 0.0)
    assert loss_and_gradient(goal)[0] == pytest.approx(float(single.sum()), rel=1e-5)
    masks = np.asarray(dropped_logits(3) == 0)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        # 168 decisions at rate 0.5: 0.3 is five standard deviations below a half.
        assert (masks[first] != masks[second]).mean() > 0.3


def test_at_rate_0_draws_change_nothing_and_do_not_diverge():
    plain = loss_and_gradient(objective("none"))
    goal = objective("fc:bernoulli:0.0")._replace(draws=3, consistency=RDROP)
    value, gradient = loss_and_gradient(goal)
    assert value == pytest.approx(plain[0], rel=1e-6)
    np.testing.assert_allclose(gradient, plain[1], rtol=1e-4, atol=1e-6)


def test_the_gradient_of_rdrop_equals_finite_differences():
    goal = objective(PLAN)._replace(draws=2, consistency=RDROP)
    table = state_at(5).params["table"]["kernel"]
    _, gradient = loss_and_gradient(goal, table)
    direction = np.asarray(jax.random.normal(jax.random.key(1), table.shape))
    size = 1e-2
    up, down = (
        loss_and_gradient(goal, table + sign * size * direction)[0] for sign in (1, -1)
    )
    slope = (up - down) / (2 * size)
    assert slope == pytest.approx((gradient * direction).sum(), rel=5e-3)


def test_rdrop_of_two_coins_equals_its_formula():
    p, q = 0.8, 0.3
    logits = jnp.log(jnp.array([[[p, 1 - p]], [[q, 1 - q]]]))
    forward = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    backward = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    expected = 2.5 * (forward + backward) / 2
    assert float(rdrop(logits, alpha=2.5)[0]) == pytest.approx(expected, rel=1e-5)
    assert float(rdrop(logits[::-1], alpha=2.5)[0]) == pytest.approx(expected, rel=1e-5)


LOGITS = np.float64([[[1.0, -2.0, 0.5]], [[0.0, 1.0, -1.0]], [[-1.0, 2.0, 3.0]]])
PAIRS = ((0, 1), (0, 2), (1, 2))


def test_squared_distances_equal_their_formulas():
    """Over three draws of one example, pair by pair; positions are averaged."""
    logits = jnp.float32(LOGITS)
    apart = [np.mean((LOGITS[i] - LOGITS[j]) ** 2) for i, j in PAIRS]
    found = fraternal(logits, kappa=0.3)
    np.testing.assert_allclose(found, [0.3 * np.mean(apart)], rtol=1e-5)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    apart = [np.mean((p[i] - p[j]) ** 2) for i, j in PAIRS]
    np.testing.assert_allclose(
        pi_model(logits, weight=2.0), [2 * np.mean(apart)], rtol=1e-5
    )
    gap = expectation_linear(logits[1:], logits[0], weight=0.5)
    expected = np.mean((LOGITS[1:] - LOGITS[0]) ** 2) / 2
    np.testing.assert_allclose(gap, [expected], rtol=1e-5)
    text = jnp.stack([logits, logits + 1], 2)  # (draws, n, positions, classes)
    np.testing.assert_allclose(fraternal(text), fraternal(logits), rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["expectation_linear(weight=0.7)", pytest.param("fraternal(kappa=0.7)",
     marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_loss_has_the_penalty_of_draws_by_hand(text):
    """Of draw 0 and the table without masks, or of draws 0 and 1."""
    call = parse_call(text)
    draws = draws_of(call, 1)
    goal = objective(PLAN)._replace(draws=draws, consistency=call)
    logits = np.float64(dropped_logits(2))
    table = np.float64(state_at(5).params["table"]["kernel"])
    other = table if call.name == "expectation_linear" else logits[1]
    apart = 0.7 * ((logits[0] - other) ** 2).mean(-1).sum()
    log_p = logits[:draws] - np.log(np.exp(logits[:draws]).sum(-1, keepdims=True))
    expected = apart - log_p[:, ALL, ALL % CLASSES].sum(1).mean()
    assert loss_and_gradient(goal)[0] == pytest.approx(expected, rel=1e-5)


def test_what_no_mask_reaches_is_computed_once(small, tmp_path):
    """The shapes of all products in a step with five draws: those in front of the first
    active site are of one draw, those after it of five; and so backwards."""
    config = replace(
        small, model="mlp(widths=(6, 5, 4))", dropout="fc2:bernoulli:0.5",
        samples_per_step=5, workdir=str(tmp_path),
    )  # fmt: skip
    experiment = prepare(canonical(config))
    goal, network = experiment.objective, experiment.network
    part = jax.tree.map(lambda leaf: leaf[0], _batch(experiment))

    def loss(params):
        step = jnp.zeros((), jnp.int32)
        return summed_loss(goal, params, network.stats, step, part, KEY)[0]

    program = jax.make_jaxpr(jax.grad(loss))(network.params)
    sizes = {kernel: 0 for kernel in ((100, 6), (6, 5), (5, 4), (4, 3))}
    largest = dict(sizes)
    for left, right, out in _products(program.jaxpr):
        for kernel in sizes:
            if kernel in (left[-2:], right[-2:], out[-2:]):
                largest[kernel] = max(largest[kernel], len(left), len(right))
    assert largest[(100, 6)] == largest[(6, 5)] == 2
    assert largest[(5, 4)] == largest[(4, 3)] == 3


def _batch(experiment):

    return next(batches_from(experiment, 0))


def _products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield tuple(v.aval.shape for v in (*equation.invars, equation.outvars[0]))
        for inner in jaxprs_in_params(equation.params):
            yield from _products(inner)


def test_flags_and_what_they_refuse():
    assert draws_of(Call("none"), 1) == 1 and draws_of(RDROP, 1) == 2
    assert draws_of(RDROP, 4) == 4 and draws_of(Call("fraternal"), 1) == 2
    assert draws_of(Call("expectation_linear"), 1) == 1
    assert canonical(Config(consistency="rdrop( alpha=2 )")).consistency == (
        "rdrop(alpha=2)"
    )
    for text, says in {
        "rdop": "unknown consistency 'rdop'; did you mean 'rdrop'",
        "rdrop(alpha=-1)": r"alpha=-1.*expected a number in \[0, 1e9\]",
        "rdrop(beta=1)": "no option 'beta'",
    }.items():
        with pytest.raises(ValueError, match=says):
            check_consistency(parse_call(text))
    with pytest.raises(ValueError, match="samples_per_step=0"):
        canonical(Config(samples_per_step=0))
