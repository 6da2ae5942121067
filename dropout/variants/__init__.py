"""The registry of variants: to add one, write its function and an entry.

Entries are in `on_activations` and `on_weights_and_paths`.
"""

from dropout.variants.entry import Variant
from dropout.variants.on_activations import ON_ACTIVATIONS
from dropout.variants.on_weights_and_paths import ON_WEIGHTS_AND_PATHS

VARIANTS: dict[str, Variant] = {
    entry.name: entry for entry in (*ON_ACTIVATIONS, *ON_WEIGHTS_AND_PATHS)
}
