"""Records what other libraries compute: PYTHONPATH=tests python tests/parity/record.py.

They have to be installed, as `make test-parity` does.
"""

from parity import other_variants, torch_networks, torch_weights
from parity.networks import IMAGES
from parity.recorded import write
from parity.weight_cases import RECORDED

if __name__ == "__main__":
    write("networks", {text: torch_networks.results(text) for text in IMAGES})
    write("weights", {text: torch_weights.results(text) for text in RECORDED})
    write("variants", {c: other_variants.results(c) for c in other_variants.RESULTS})
