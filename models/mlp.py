"""A multi-layer perceptron of any widths."""

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images
from models.layers import Dense, Size, flatten, rectify, require_widths


class MLP(nnx.Module):
    """Dense layers with rectified units, `fc1`, `fc2`, ..., and the layer `out`.

    The default hidden widths are those of Srivastava et al. 2014.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        widths: tuple[Size, ...] = (1024, 1024),
    ):
        require_widths("mlp", widths, len(widths))
        inputs = (image[0] * image[1] * image[2], *widths)
        self.names = tuple(f"fc{number}" for number in range(1, len(widths) + 1))
        for name, before, width in zip(self.names, inputs, widths):
            setattr(self, name, Dense(name, (before, width), key=key))
        self.out = Dense("out", (inputs[-1], classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = flatten(drop("input", images))
        for name in self.names:
            x = rectify(name, getattr(self, name)(x, drop), drop)
        return self.out(x, drop)
