"""The networks: every place where dropout can act is a named site.

Adding one is a file and a line here. A model is called as `model(images, drop)`; it
knows no rates, variants, keys or flags.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from dropout.grammar import Call, check_options, lookup
from models.all_conv import all_conv
from models.char_rnn import char_rnn
from models.cnn import cnn, cnn_same
from models.layers import Images
from models.lenet import lenet
from models.mlp import mlp
from models.plain import plain
from models.resnet import resnet, resnet_imagenet
from models.rows import gru, lstm
from models.shake_shake import shake_shake
from models.vgg import vgg
from models.vit import vit, vit_small, vit_tiny
from models.wrn import wrn


@runtime_checkable
class Model(Protocol):
    """What training needs of a network."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The places where dropout can act, in the order in which they are called."""
        ...

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n *positions c"]:
        """Logits for images (n, h, w, channels), one set each or one a position."""
        ...


MODELS: dict[str, Callable[..., Model]] = {
    function.__name__: function
    for function in (
        *(all_conv, cnn, cnn_same, lenet, plain, vgg),
        *(resnet, resnet_imagenet, wrn, shake_shake),
        *(char_rnn, gru, lstm, mlp, vit, vit_small, vit_tiny),
    )
}


def check_model(call: Call) -> None:
    """Raises ValueError for an unknown model, option or value."""
    check_options("model", call, lookup("model", call.name, MODELS))


def create(
    call: Call, image: tuple[int, int, int], classes: int, key: Key[Array, ""]
) -> Model:
    """A new network for images of shape (h, w, c), each kernel drawn by its name.

    Raises:
        ValueError: images that are too small for the network.
    """
    return MODELS[call.name](image, classes, key, **dict(call.options))
