"""The families of variants, and their titles."""

from dropout import Variant

FAMILIES = {
    "elementwise": "Elements",
    "structured": "Channels and positions",
    "blocks": "Blocks",
    "regions": "Regions of the image",
    "grids": "Grids and cells of the image",
    "adaptive": "Masks that depend on the values",
    "fixed_masks": "Masks that are fixed for a run",
    "pooling": "Pooling windows",
    "kernels": "Weights",
    "paths": "Paths: four examples, four steps",
    "nonlinearities": "Non-linearities",
    "recurrent": "Recurrent states: time from top to bottom",
    "attention": "Attention: four heads, a row for each query",
    "learned": "Learned and adaptive rates, at the rate that they start with",
}


def family(entry: Variant) -> str:
    """Return the module, or the folder of modules, in which a variant is defined."""
    return entry.draw.__module__.split(".")[2]
