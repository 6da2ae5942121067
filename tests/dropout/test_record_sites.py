"""What a recorded pass says of a network's sites, and of the kernels that read them."""

import jax
import jax.numpy as jnp
import pytest

from dropout import Site, learned_rows, parse, record_sites, resolve

X = jnp.ones((3, 4))
KERNEL = jnp.ones((4, 4))


def kernel_site(drop, name, x=X):
    return drop(name, x, KERNEL, jnp.matmul)


def test_sites_come_in_the_order_of_the_calls_with_their_shapes_and_readers():
    def call(drop):
        x = kernel_site(drop, "fc/kernel", drop("input", X))
        x = drop("fc", drop("fc/pre", x)[:, :2])
        return drop("out/kernel", x, jnp.ones((2, 5)), jnp.matmul), drop("out", x)

    assert record_sites(call) == (
        Site("input", (3, 4), "fc/kernel"),
        Site("fc/kernel", (4, 4), "fc/kernel"),
        Site("fc/pre", (3, 4), "out/kernel"),
        Site("fc", (3, 2), "out/kernel"),
        Site("out/kernel", (2, 5), "out/kernel"),
        Site("out", (3, 2), ""),
    )


def test_a_named_reader_stands_before_the_next_kernel():
    """A branch whose shortcut is projected after it, a state that is read before."""

    def call(drop):
        kernel_site(drop, "lstm1/hidden/kernel")
        drop("lstm1/hidden", X, reader="lstm1/hidden/kernel")
        drop("block1/branch", X, reader="block2/conv1/kernel")
        kernel_site(drop, "block1/shortcut/kernel")
        kernel_site(drop, "block2/conv1/kernel")

    sites = record_sites(call)
    assert [site.reader for site in sites[1:3]] == [
        "lstm1/hidden/kernel",
        "block2/conv1/kernel",
    ]
    rows = resolve(parse("*/branch:concrete:0.1"), tuple(site.name for site in sites))
    (learned,) = learned_rows(rows, sites)
    assert (learned.kernel, learned.shape) == ("block2/conv1/kernel", (3, 4))


def test_a_reader_that_is_no_kernel_site_is_refused():
    def call(drop):
        drop("fc", X, reader="fc2/kernel")
        kernel_site(drop, "fc3/kernel")

    with pytest.raises(ValueError, match="'fc' names.*'fc2/kernel'.*'fc3/kernel'"):
        record_sites(call)


def test_a_learned_rule_where_no_kernel_reads_is_refused():
    sites = record_sites(lambda drop: drop("fc", X))
    with pytest.raises(ValueError, match="'fc': no kernel"):
        learned_rows(resolve(parse("fc:concrete:0.1"), ("fc",)), sites)


def scanned(drop, name):
    def body(state, time):
        return drop(name, state, time=time) * 2, None

    # Traced twice, as libraries do that ask for the shape of the state first.
    jax.eval_shape(body, X, 0)
    return jax.lax.scan(body, X, jnp.arange(3))


def rematerialised(drop, name):
    return jax.checkpoint(lambda x: drop(name, x) * 2)(X)


def mapped(drop, name):
    return jax.vmap(lambda row: drop(name, row))(X)


def jitted(drop, name):
    return jax.jit(lambda x: drop(name, x))(X)


@pytest.mark.parametrize("inside", [scanned, rematerialised, mapped, jitted])
def test_a_site_inside_a_transformation_counts_once_and_outside_it_again(inside):
    assert [site.name for site in record_sites(lambda drop: inside(drop, "a"))] == ["a"]
    with pytest.raises(ValueError, match="'a' is called twice"):
        record_sites(lambda drop: (inside(drop, "a"), drop("a", X)))


def test_a_site_in_a_loop_passes_its_time():
    """Else all layers of a scan, or all turns of a loop, would share one mask."""

    def layers(drop):
        return jax.lax.scan(lambda x, _: (drop("a", x), None), X, jnp.arange(3))

    def turns(drop):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: drop("a", x), X)

    for call in (layers, turns):
        with pytest.raises(ValueError, match="'a' is called in a loop without"):
            record_sites(call)


def test_a_function_that_is_compiled_once_and_called_twice_calls_its_site_twice():
    def call(drop):
        layer = jax.jit(lambda x: drop("a", x))
        layer(layer(X))

    with pytest.raises(ValueError, match="'a' is called twice"):
        record_sites(call)


def test_a_site_called_twice_in_one_scan_step_or_one_pass_is_refused():
    def twice(state, drop):
        return drop("a", drop("a", state)), None

    for call in (
        lambda drop: twice(X, drop),
        lambda drop: jax.lax.scan(lambda x, _: twice(x, drop), X, jnp.arange(2)),
    ):
        with pytest.raises(ValueError, match="'a' is called twice"):
            record_sites(call)
