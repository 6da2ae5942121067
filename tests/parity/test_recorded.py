"""What is recorded of other libraries is what they compute."""

import numpy as np
import pytest

from parity.networks import IMAGES
from parity.peers import peer
from parity.recorded import recorded

LIBRARIES = (
    "torch", "torchvision", "timm", "keras", "equinox", "albumentations",
    "torch_uncertainty", "l0",
)  # fmt: skip
for library in LIBRARIES:
    peer(library)

# They need them.
from parity import (  # noqa: E402
    other_gates,
    other_regions,
    other_variants,
    torch_networks,
)

pytestmark = pytest.mark.parity


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        scale = np.abs(expected[name]).max(initial=0)
        np.testing.assert_allclose(
            value, expected[name], rtol=1e-5, atol=1e-5 * scale, err_msg=name
        )


@pytest.mark.parametrize("text", IMAGES)
def test_networks(text):
    check(torch_networks.results(text), recorded("networks", text))


MODULES = {"variants": other_variants, "regions": other_regions, "gates": other_gates}


@pytest.mark.parametrize(
    ("group", "case"),
    [(group, case) for group in MODULES for case in MODULES[group].RESULTS],
)
def test_variants(group, case):
    check(MODULES[group].results(case), recorded(group, case))
