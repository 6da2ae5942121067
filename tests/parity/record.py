"""Records what other libraries compute: PYTHONPATH=tests python tests/parity/record.py.

They have to be installed, as `make test-parity` does.
"""

from parity import (
    other_gates,
    other_regions,
    other_variants,
    torch_networks,
    torch_weights,
)
from parity.networks import IMAGES
from parity.recorded import write
from parity.weight_cases import RECORDED

if __name__ == "__main__":
    write("networks", {text: torch_networks.results(text) for text in IMAGES})
    write("weights", {text: torch_weights.results(text) for text in RECORDED})
    for group, module in (
        ("variants", other_variants),
        ("regions", other_regions),
        ("gates", other_gates),
    ):
        write(group, {case: module.results(case) for case in module.RESULTS})
