"""The registry of variants: adding one is a function and a line here."""

from dropout.kinds import ACTIVATIONS
from dropout.variants.elementwise import bernoulli
from dropout.variants.entry import Variant

VARIANTS: dict[str, Variant] = {
    entry.name: entry for entry in (Variant(bernoulli, kinds=(*ACTIVATIONS, "kernel")),)
}
