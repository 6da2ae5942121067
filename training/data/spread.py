"""Images that fit in memory, an equal part of them on each device that shares a batch.

The devices together hold the images once, and a compiled step gathers its batch from
all devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, Num

from training.runtime.devices import put, replicated


def spread_images(
    mesh: Mesh, images: Num[Array | np.ndarray, "n h w c"]
) -> Num[Array, "padded h w c"]:
    """Return the images in order, an equal part of them on each device.

    If the number of devices does not divide that of the images, zeros are added at the
    end. Each process puts the parts of its own devices.
    """
    devices = mesh.shape["data"]
    if devices == 1:
        return put(images, replicated(mesh))
    rows = -(-len(images) // devices)

    def part(index: Any) -> np.ndarray:
        found = np.asarray(images[index[0]])
        zeros = np.zeros((rows - len(found), *images.shape[1:]), images.dtype)
        return np.concatenate((found, zeros))

    sharding = NamedSharding(mesh, PartitionSpec("data"))
    shape = (rows * devices, *images.shape[1:])
    return jax.make_array_from_callback(shape, sharding, part)


def gather_images(
    mesh: Mesh, images: Num[Array, "padded h w c"], ids: Int32[Array, "*parts m"]
) -> Num[Array, "*parts m h w c"]:
    """Return the images of `ids` from what `spread_images` gave, in a compiled step.

    The result is spread over the devices along the last axis of `ids`, whose length the
    number of devices must divide. This takes one collective operation, on one batch.
    """
    if mesh.shape["data"] == 1:
        return images[ids]

    def from_all(
        part: Num[Array, "rows h w c"], ids: Int32[Array, "*parts m"]
    ) -> Num[Array, "*parts own h w c"]:
        rows = ids - len(part) * jax.lax.axis_index("data")
        held = jnp.expand_dims((rows >= 0) & (rows < len(part)), (-3, -2, -1))
        found = jnp.where(held, part[rows.clip(0, len(part) - 1)], 0)
        # Only one device holds an image, and all others add 0 to it.
        return jax.lax.psum_scatter(
            found, "data", scatter_dimension=ids.ndim - 1, tiled=True
        )

    batch = PartitionSpec(*(None,) * (ids.ndim - 1), "data")
    specs = PartitionSpec("data"), PartitionSpec()
    return jax.shard_map(from_all, mesh=mesh, in_specs=specs, out_specs=batch)(
        images, ids
    )
