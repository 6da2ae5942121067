"""Options have domains: their ends are taken, and what lies beyond is refused."""

import jax
import pytest
from variant_cases import Case, inputs

KEY = jax.random.key(3)

# The variant, an option, values at the ends of its domain, and values beyond them.
DOMAINS = [
    ("nested", "first", [0, 4], [-1, 5]),
    ("patch", "prefix", [0, 5], [-1, 99]),
    ("dropblock", "block_size", [1, 99], [0, -3]),
    ("disout", "block_size", [1, 99], [0, -3]),
    ("disout", "alpha", [0.0, 9.0], [-0.1]),
    ("cutout", "length", [1, 99], [0, -1]),
    ("random_erasing", "smallest", [0.0, 0.4], [-0.1, 0.41]),
    ("random_erasing", "largest", [0.02, 1.0], [0.01, 1.1, 2.0]),
    ("random_erasing", "aspect", [0.1, 1.0], [0.0, -1.0, 1.1, 2.0]),
    ("erase", "height", [0.01, 1.0], [0.0, -0.5, 1.1, 2.0]),
    ("erase", "width", [0.01, 1.0], [0.0, -0.5, 1.1, 2.0]),
    ("grid_mask", "shortest", [1, 16], [0, 17]),
    ("grid_mask", "longest", [8, 99], [7, 0]),
    ("grid_mask", "ratio", [0.0, 1.0], [-0.1, 1.1, 2.0]),
    ("hide_and_seek", "sizes", [(0,), (1, 99)], [(), (-1,), (4, -4)]),
    ("adl", "threshold", [0.0, 1.0], [-0.1, 1.1, 2.0]),
    ("jumpout", "cap", [0.01, 1.0], [0.0, -0.5, 1.1, 2.0]),
    ("jumpout", "power", [0.0, 1.0], [-0.1, 1.1, 2.0]),
    ("masksembles", "masks", [1, 1024], [0, 1025]),
    ("targeted", "target", [0.0, 1.0], [-0.1, 1.1, 2.0]),
    ("rrelu", "low", [0.0, 1 / 3], [0.34, float("nan")]),
    ("concrete", "temperature", [0.01, 9.0], [0.0, -1.0]),
    ("concrete", "length_scale", [0.0, 9.0], [-1e-4]),
    ("spatial_concrete", "temperature", [0.01, 9.0], [0.0, -1.0]),
    ("l0_gate", "weight", [0.0, 9.0], [-0.1]),
]
TAKEN = [(n, o, v) for n, o, ends, _ in DOMAINS for v in ends]
REFUSED = [(n, o, v) for n, o, _, beyond in DOMAINS for v in beyond]


def shapes(name, option, value):
    case = Case(name, {option: value})
    drawn = lambda key, x: case.draw(key, 0.3, *x)  # noqa: E731
    return jax.eval_shape(drawn, KEY, inputs(case.kind))


@pytest.mark.parametrize(("name", "option", "value"), TAKEN)
def test_the_ends_are_taken(name, option, value):
    assert shapes(name, option, value).shape


@pytest.mark.parametrize(("name", "option", "value"), REFUSED)
def test_what_is_beyond_is_refused(name, option, value):
    with pytest.raises(ValueError, match=option.split("_")[0]) as raised:
        shapes(name, option, value)
    assert "\n" not in str(raised.value)
