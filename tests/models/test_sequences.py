"""The recurrent network and the vision transformer, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import made, site_names
from variant_cases import QUICK

from dropout import Moment, bind, identity, parse, resolve
from models.norms import last_axis_norm, normalise
from models.vit import cut

LSTM, GRU, VIT = (
    "lstm(units=5)",
    "gru(units=5)",
    "vit(patch=3, width=8, depth=2, heads=2)",
)
ROWS, IMAGE = 4, (6, 9, 2)


def network(text, classes=3):
    return made(text, IMAGE, classes, jax.random.key(0))


def weights(model):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def images(key, rows=ROWS):
    return jax.random.normal(key, (rows, *IMAGE))


def rows_of(text, plan):
    return resolve(parse(plan), site_names(text, IMAGE, 3))


def dropper(text, plan, key, ids=None):
    ids = jnp.arange(ROWS) if ids is None else jnp.asarray(ids)
    return bind(rows_of(text, plan), Moment(key, ids, 0, 0))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(params, images, zone=(0.0, 0.0)):
    """Gates and states in float64, written out; `zone` mixes in the old (c, h)."""
    rows = images.reshape(*images.shape[:2], -1)
    hidden = cell = np.zeros((len(rows), 5))
    for row in np.moveaxis(rows, 1, 0):
        gates = row @ params["lstm"]["kernel"] + params["lstm"]["bias"]
        gates = gates + hidden @ params["lstm"]["recurrent"]["kernel"]
        i, f, g, o = np.split(gates, 4, axis=1)
        new = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        out = sigmoid(o) * np.tanh(new)
        cell = zone[0] * cell + (1 - zone[0]) * new
        hidden = zone[1] * hidden + (1 - zone[1]) * out
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


def gru_by_hand(params, images, zone=0.0):
    """Gates and state in float64, written out."""
    rows = images.reshape(*images.shape[:2], -1)
    hidden = np.zeros((len(rows), 5))
    kernels = [
        np.split(kernel, 3, axis=1)
        for kernel in (params["gru"]["kernel"], params["gru"]["recurrent"]["kernel"])
    ]
    bias = np.split(params["gru"]["bias"], 3)
    second = np.split(params["gru"]["recurrent"]["bias"], 3)
    for row in np.moveaxis(rows, 1, 0):
        ours = [row @ kernel + b for kernel, b in zip(kernels[0], bias)]
        theirs = [hidden @ kernel + b for kernel, b in zip(kernels[1], second)]
        r, z = (sigmoid(ours[k] + theirs[k]) for k in (0, 1))
        candidate = np.tanh(ours[2] + r * theirs[2])
        new = z * hidden + (1 - z) * candidate
        hidden = zone * hidden + (1 - zone) * new
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [pytest.param(LSTM, lstm_by_hand, marks=pytest.mark.slow), (GRU, gru_by_hand)],
)
def test_cells_equal_their_formulas_written_out(key, text, by_hand):
    model, x = network(text), images(key)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.1), weights(model))
    nnx.update(model, params)
    expected = by_hand(weights(model), np.asarray(x, np.float64))
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


@pytest.mark.slow
def test_a_language_model_sees_the_past_alone(key):
    model = network("char_rnn(embedding=4, units=5, layers=2)")
    x = images(key)
    changed = model(x.at[:, 4].add(1.0)) != model(x)
    assert not changed[:, :4].any() and changed[:, 4:].all()


@pytest.mark.slow
def test_layers_of_a_language_model_are_stacked(key):
    """Its first layer is the one of `lstm`, at every length of the sequence."""
    model, x = network("char_rnn(embedding=6, units=5)"), images(key)
    params = weights(model)
    table = params["embedding"]["kernel"]
    params["lstm"] = {**params["lstm1"], "kernel": table @ params["lstm1"]["kernel"]}
    for length in (1, IMAGE[0]):
        found = model(x)[:, length - 1]
        expected = lstm_by_hand(params, np.asarray(x, np.float64)[:, :length])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_zoneout_at_test_mixes_the_states_of_cell_and_hidden_unit(key):
    model, x = network(LSTM), images(key)
    rows = rows_of(LSTM, "lstm/cell/state:zoneout:0.3 lstm/state:zoneout:0.2")
    drop = bind(rows, None, "eval")
    expected = lstm_by_hand(weights(model), np.asarray(x, np.float64), (0.3, 0.2))
    np.testing.assert_allclose(model(x, drop), expected, atol=1e-5)


def test_zoneout_at_test_mixes_the_state_of_a_gated_unit(key):
    model, x = network(GRU), images(key)
    drop = bind(rows_of(GRU, "gru/state:zoneout:0.3"), None, "eval")
    expected = gru_by_hand(weights(model), np.asarray(x, np.float64), 0.3)
    np.testing.assert_allclose(model(x, drop), expected, atol=1e-5)


def test_lstm_has_the_textbook_number_of_parameters_and_forget_bias_one():
    params = weights(network(LSTM))
    features, units, classes = IMAGE[1] * IMAGE[2], 5, 3
    count = 4 * ((features + units) * units + units) + units * classes + classes
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    forget = params["lstm"]["bias"].reshape(4, units)
    np.testing.assert_array_equal(forget.sum(1), [0, units, 0, 0])


@pytest.mark.parametrize(
    "site",
    ["lstm/candidate:recurrent", "lstm/state:zoneout", "gru/candidate:recurrent"],
)
def test_nothing_enters_the_memory_at_rate_one(key, site):
    text = f"{site.partition('/')[0]}(units=5)"
    model = network(text)
    bias = jnp.broadcast_to(weights(model)["out"]["bias"], (ROWS, 3))
    drop = dropper(text, f"{site}:1.0", key)
    np.testing.assert_array_equal(model(images(key), drop), bias)


def test_sites_inside_the_scan_and_no_others_are_told_the_time(key):
    told = {}

    def drop(site, x, *others, time=None, reader=""):
        told[site] = time is not None
        return identity(site, x, *others)

    model = network(LSTM)
    model(images(key), drop)
    inside = {"lstm/hidden", "lstm/candidate", "lstm/cell/state", "lstm/state"}
    assert {site for site, value in told.items() if value} == inside


@pytest.mark.parametrize("unit", ["batch", "example"])
def test_a_sequence_has_one_mask_of_the_recurrent_kernel(key, unit):
    """The same as a plain network whose recurrent kernel is the dropped one."""
    model, x = network(LSTM), images(key)
    drop = dropper(LSTM, f"lstm/recurrent/kernel:dropconnect(unit='{unit}'):0.5", key)
    params = weights(model)
    kernel = jnp.asarray(params["lstm"]["recurrent"]["kernel"])
    kernels = drop("lstm/recurrent/kernel", x, kernel, lambda _, kernel: kernel[None])
    assert len(kernels) == (1 if unit == "batch" else ROWS)
    found = model(x, drop)
    for row in range(ROWS):
        params["lstm"]["recurrent"]["kernel"] = np.asarray(kernels[row % len(kernels)])
        expected = lstm_by_hand(params, np.asarray(x[row : row + 1], np.float64))
        np.testing.assert_allclose(found[row : row + 1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        (LSTM, "lstm/hidden:locked:0.3 lstm/*/state:zoneout:0.3 rows:locked:0.2"),
        pytest.param(
            GRU,
            "gru/hidden:locked:0.3 gru/state:zoneout:0.3 gru/candidate:recurrent:0.2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            LSTM,
            "lstm/kernel:dropconnect(unit='example'):0.3 lstm/state:zoneout:0.3",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            VIT,
            "tokens:patch:0.5 block*/*/branch:drop_path:0.5 block*/*/weights:drophead:"
            "0.5 block*/*/logits:dropkey:0.2 block*/mlp:bernoulli:0.3 "
            "block*/*/*/kernel:dropconnect(unit='example'):0.3",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            VIT,
            "tokens:patch:0.5 block*/*/weights:drophead:0.5",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_masks_follow_the_example_through_the_network(key, text, plan):
    model, x, order = network(text), images(key), np.array([2, 0, 3, 1])
    forward = jax.jit(
        lambda x, ids: model(x, dropper(text, plan, key, ids)),
        compiler_options=QUICK,
    )
    whole, part = forward(x, np.arange(ROWS)), forward(x[order], order)
    np.testing.assert_allclose(part, whole[order], rtol=1e-4, atol=1e-5)
    assert (np.abs(whole - model(x)) > 1e-4).any()


@pytest.mark.slow
def test_vit_equals_its_formula_written_out(key):
    model, x = network(VIT), images(key)
    params = weights(model)

    def dense(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def norm(layer, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * layer["scale"] + layer["bias"]

    def attend(layer, x):
        query, value_key = np.split(dense(layer["qkv"], x), [8], axis=-1)
        keys, values = np.split(value_key, 2, axis=-1)
        mixed = []
        for head in (slice(0, 4), slice(4, 8)):
            scores = np.exp(np.einsum("nqd,nkd->nqk", query[..., head], keys[..., head])
                            / 2)  # fmt: skip
            scores /= scores.sum(-1, keepdims=True)
            mixed.append(np.einsum("nqk,nkd->nqd", scores, values[..., head]))
        return dense(layer["out"], np.concatenate(mixed, -1))

    pixels = np.asarray(x, np.float64)
    tokens = [
        pixels[:, top : top + 3, left : left + 3].reshape(ROWS, -1)
        for top in (0, 3)
        for left in (0, 3, 6)
    ]
    y = dense(params["patches"], np.stack(tokens, 1)) + params["positions"]
    for block in (params["block1"], params["block2"]):
        y = y + attend(block["attention"], norm(block["norm1"], y))
        hidden = dense(block["mlp"]["hidden"], norm(block["norm2"], y))
        y = y + dense(block["mlp"]["out"], np.asarray(jax.nn.gelu(jnp.float32(hidden))))
    expected = dense(params["out"], norm(params["norm"], y).mean(1))
    np.testing.assert_allclose(model(x), expected, atol=1e-4)


@pytest.mark.slow
def test_a_class_token_is_no_token_that_a_site_drops(key):
    model, x = (
        network("vit(patch=3, width=4, depth=1, heads=1, class_token=True)"),
        images(key),
    )
    seen = {}

    def blind(site, x, *rest):
        seen[site] = x.shape
        return identity(site, x * float(site != "tokens"), *rest)

    logits = model(x, blind)
    assert seen["tokens"] == (ROWS, 6, 4)
    assert seen["block1/attention"] == (ROWS, 7, 4)
    # The class token is all that is left, and is the same for all images.
    np.testing.assert_array_equal(logits, logits[:1].repeat(ROWS, 0))
    model.class_token[...] = jnp.arange(4.0).reshape(1, 1, 4)
    assert (jnp.abs(model(x, blind) - logits) > 1e-3).any()


def test_patches_are_cut_in_reading_order(key):
    x = images(key)
    patches = cut(x, 3).reshape(ROWS, 2, 3, 3, 3, 2)
    np.testing.assert_array_equal(patches[:, 1, 2], x[:, 3:6, 6:9])


@pytest.mark.slow
def test_layer_norm_gives_mean_zero_and_variance_one_in_the_dtype_of_its_input(key):
    x = 5 + 3 * jax.random.normal(key, (4, 7, 64), jnp.bfloat16)
    y = normalise(last_axis_norm(64), x, None)
    assert y.dtype == x.dtype
    values = np.asarray(y, np.float32)
    np.testing.assert_allclose(values.mean(-1), 0, atol=0.02)
    np.testing.assert_allclose(values.var(-1), 1, atol=0.02)


@pytest.mark.parametrize(
    ("text", "says"),
    [("vit(patch=4)", "patch=4.* 6x9 .*divides"), ("vit(patch=3, heads=3)", "heads=3")],
)
def test_what_makes_no_transformer_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        network(text)
