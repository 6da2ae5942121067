"""LeNet as the dropout literature trains it (Caffe's form of LeCun et al. 1998)."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images, deferred_convolution
from models.layers import Conv, Dense, flatten, pool_2x2, rectify, require_size


class LeNet(nnx.Module):
    """conv 20 5x5 - pool - conv 50 5x5 - pool - dense 500 - dense.

    431,080 parameters on 28x28x1. As in Caffe there is no non-linearity after the
    convolutions (Gal & Ghahramani 2015 drop there); max-pooling is the only one.
    """

    def __init__(self, image: tuple[int, int, int], classes: int, key: Key[Array, ""]):
        require_size("lenet", image, 16)
        height, width = (((length - 4) // 2 - 4) // 2 for length in image[:2])
        conv = partial(
            Conv, size=5, padding="VALID", key=key, convolve=deferred_convolution
        )
        self.conv1 = conv("conv1", (image[2], 20))
        self.conv2 = conv("conv2", (20, 50))
        self.fc = Dense("fc", (height * width * 50, 500), key=key)
        self.out = Dense("out", (500, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes)."""
        x = drop("input", images)
        x = drop("conv1", self.conv1(x, drop))
        x = drop("pool1", drop("pool1/window", x, pool_2x2))
        x = drop("conv2", self.conv2(x, drop))
        x = drop("pool2", drop("pool2/window", x, pool_2x2))
        x = rectify("fc", self.fc(flatten(x), drop), drop)
        return self.out(x, drop)
