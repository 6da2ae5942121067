"""What is recorded of other libraries is what they compute."""

import numpy as np
import pytest

from parity.networks import IMAGES
from parity.peers import peer
from parity.recorded import recorded

for library in ("torch", "torchvision", "timm", "keras", "equinox"):
    peer(library)

# Both need them.
from parity import other_variants, torch_networks  # noqa: E402

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


@pytest.mark.parametrize("case", other_variants.RESULTS)
def test_variants(case):
    check(other_variants.results(case), recorded("variants", case))
