"""Corruptions: laws over the registry, and what each does to a known image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling import sampled
from scipy import ndimage
from variant_cases import QUICK

from evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt, rotate, warp
from training.data import sources

KEY = jax.random.key(4)
TURN = jax.jit(rotate, compiler_options=QUICK)
IDS = jnp.arange(40, 46)


quick = jax.jit(corrupt.__wrapped__, static_argnums=(0, 1), compiler_options=QUICK)


def digits(dtype=jnp.uint8):
    images = jnp.asarray(sources.digits()[1].images[:6])
    return images if dtype == jnp.uint8 else images.astype(dtype) / 255


def corrupted(name, severity, images=None, ids=IDS, **limits):
    images = digits() if images is None else images
    return np.asarray(quick(name, severity, KEY, images, ids, **limits))


@pytest.mark.parametrize("name", sampled(CORRUPTIONS, ("blur", "rotation")))
def test_each_corruption(name):
    """Same form, more damage with severity, a function of the example and the key."""
    clean = np.asarray(digits()).astype(np.float32)
    by_severity = {severity: corrupted(name, severity) for severity in (1, 5)}
    for found in by_severity.values():
        assert found.shape == clean.shape and found.dtype == np.uint8
    damage = [abs(found - clean).mean() for found in by_severity.values()]
    assert 0 < damage[0] < damage[1]
    order = np.asarray([3, 1, 5, 0, 4, 2])
    reordered = corrupted(name, 5, digits()[order], IDS[order])
    np.testing.assert_array_equal(reordered, by_severity[5][order])


@pytest.mark.parametrize("name", ["gaussian_noise", "rotation"])
def test_float_images_keep_their_range(name):
    images = digits(jnp.float32) * 4 - 1
    found = corrupted(name, 5, images, lowest=-1.0, highest=3.0)
    assert found.dtype == np.float32
    assert found.min() >= -1 and found.max() <= 3
    whole = corrupted(name, 5).astype(np.float32)
    np.testing.assert_allclose((found + 1) / 4 * 255, whole, atol=0.51)


def applied(name, image, strength):
    """A corruption of one image at any strength."""
    apply = partial(CORRUPTIONS[name].apply, strength=strength)
    return jax.jit(apply, compiler_options=QUICK)(KEY, image)


def test_strengths_grow_with_severity():
    for corruption in CORRUPTIONS.values():
        steps = np.diff(corruption.strengths)
        assert len(steps) == len(SEVERITIES) - 1
        assert (steps > 0).all() or (steps < 0).all()


def test_noise_has_the_strength_that_it_states():
    """Deviations within 5 standard errors of 100,000 values."""
    grey = jnp.full((100, 1000, 1), 0.5)

    def of(name, severity):
        strength = CORRUPTIONS[name].strengths[severity]
        return np.asarray(applied(name, grey, strength))

    noise = of("gaussian_noise", 2)
    assert abs(noise.std() - 0.12) < 5 * 0.12 / np.sqrt(2e5)
    shot = of("shot_noise", 1)  # Poisson: variance is mean times the strength
    assert abs(shot.mean() - 0.5) < 5 * np.sqrt(0.5 / 25 / 1e5)
    assert abs(shot.var() - 0.5 / 25) < 0.02 * 0.5 / 25
    impulse = of("impulse_noise", 4)
    for value in (0, 1):
        rate = (impulse == value).mean()
        assert abs(rate - 0.135) < 5 * np.sqrt(0.135 * 0.865 / 1e5)


def test_blur_is_scipys():
    image = np.asarray(digits(jnp.float32)[0])
    expected = ndimage.gaussian_filter(
        image, 1.0, axes=(0, 1), mode="nearest", truncate=3
    )
    found = applied("blur", jnp.asarray(image), 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rotation_is_scipys_and_four_quarters_are_none():
    image = np.asarray(digits(jnp.float32)[0])
    expected = ndimage.rotate(image, 30, reshape=False, order=1, mode="nearest")
    found = TURN(jnp.asarray(image), 30.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    quarter = TURN(jnp.asarray(image), 90.0)
    np.testing.assert_allclose(quarter, np.rot90(image), atol=1e-4)


@pytest.mark.slow
def test_warps_by_hand():
    image = jnp.zeros((5, 5, 1)).at[1, 2].set(1.0)
    moved = warp(image, jnp.eye(2), jnp.asarray([2.0, -1.0]))
    assert moved[3, 1, 0] == 1 and moved.sum() == 1
    wide = jnp.zeros((9, 9, 1)).at[3:6, 3:6].set(1.0)
    halved = applied("scale", wide, 1 / 3)
    assert halved.sum() == 1 and halved[4, 4, 0] == 1
    line = jnp.zeros((9, 9, 1)).at[:, 4].set(1.0)
    slanted = applied("shear", line, 1.0)[..., 0]
    across = jnp.eye(9)
    assert (slanted == across).all() or (slanted == across[::-1]).all()


def test_contrast_brightness_pixelate_and_occlusion_by_hand():
    image = digits(jnp.float32)[0]
    flat = applied("contrast", image, 0.5)
    np.testing.assert_allclose(flat.mean(), image.mean(), rtol=1e-5)
    np.testing.assert_allclose(flat.std(), image.std() / 2, rtol=1e-5)
    brighter = applied("brightness", image, 0.2)
    np.testing.assert_allclose(brighter - image, 0.2, rtol=1e-5)
    coarse = np.asarray(applied("pixelate", image, 0.5))
    blocks = coarse.reshape(14, 2, 14, 2)
    assert (blocks == blocks[:, :1, :, :1]).all()
    covered = applied("occlusion", jnp.ones((20, 20, 3)), 0.3)
    assert (covered == 0.5).sum() == 6 * 6 * 3
