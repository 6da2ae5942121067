"""Networks that take no `drop`, to which the plan is attached."""

import jax
from flax import nnx
from jaxtyping import Array

from dropout import Drop, Plan, identity
from dropout.attached import Attached
from dropout.nnx import attach
from dropout.sites import Bound
from models.convolution import Images
from models.norms import RowWeights
from models.own import call_own


def attach_plan(
    model: nnx.Module, plan: Plan, images: jax.ShapeDtypeStruct
) -> Attached:
    """Attach a plan to a network that takes no `drop`.

    Its class may name the modules whose outputs are residual branches: `branches`, a
    tuple of patterns.
    """
    branches = getattr(type(model), "branches", ())

    def call(model: nnx.Module, images: Images, row_weights: RowWeights) -> Array:
        return call_own(model, images, identity, row_weights)

    return attach(model, plan, images, None, call=call, branches=branches)


def call_attached(
    attached: Attached,
    model: nnx.Module,
    images: Images,
    drop: Drop,
    row_weights: RowWeights,
) -> Array:
    """Call a network that takes no `drop`, with the rows of one that `bind` made."""
    if not isinstance(drop, Bound):
        return call_own(model, images, drop, row_weights)
    return attached.with_rows(drop.rows)(
        model, images, row_weights, moment=drop.moment, mode=drop.mode,
        rows=drop.rows, bits=drop.bits, params=drop.params,
    )  # fmt: skip
