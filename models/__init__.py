"""The networks: every point where dropout can act is a named site.

Add one by writing a file and a line in `MODELS`. A model is called as
`model(images, drop)`; it knows no rates, variants, keys or flags. `models.own` takes
networks of a user's own from anywhere.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from dropout.grammar import Call, check_options, lookup
from models.all_conv import AllConv
from models.char_rnn import CharRNN
from models.cnn import CNN, CNNSame
from models.convolution import Images
from models.lenet import LeNet
from models.mlp import MLP
from models.own import check_own, create_own, is_own
from models.plain import Plain
from models.resnet import resnet, resnet_imagenet
from models.row_rnn import GRU, LSTM
from models.shake_shake import ShakeShake
from models.vgg import VGG
from models.vit import ViT, vit_small, vit_tiny
from models.wrn import WRN


@runtime_checkable
class Model(Protocol):
    """What training needs of a network: it can be called."""

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n *positions c"]:
        """Map images (n, h, w, channels) to logits, one set per image or position."""
        ...


MODELS: dict[str, Callable[..., Model]] = {
    "all_conv": AllConv,
    "cnn": CNN,
    "cnn_same": CNNSame,
    "lenet": LeNet,
    "plain": Plain,
    "vgg": VGG,
    "resnet": resnet,
    "resnet_imagenet": resnet_imagenet,
    "wrn": WRN,
    "shake_shake": ShakeShake,
    "char_rnn": CharRNN,
    "gru": GRU,
    "lstm": LSTM,
    "mlp": MLP,
    "vit": ViT,
    "vit_small": vit_small,
    "vit_tiny": vit_tiny,
}


def check_model(call: Call) -> None:
    """Raise ValueError for an unknown model, option or value."""
    if is_own(call):
        return check_own(call)
    check_options("model", call, constructor(lookup("model", call.name, MODELS)))


def create(
    call: Call, image: tuple[int, int, int], classes: int, key: Key[Array, ""]
) -> Model | nnx.Module:
    """Return a new network for images of shape (h, w, c).

    The initial value of each kernel depends on `key` and its own name alone.

    Raises:
        ValueError: images that are too small for the network.
    """
    if is_own(call):
        return create_own(call, image, classes, key)
    return MODELS[call.name](image, classes, key, **dict(call.options))


def constructor(entry: Callable[..., Model]) -> Callable[..., object]:
    """Return the function whose keyword-only parameters are the options of a model.

    The signature of an NNX class itself is `(*args, **kwargs)`.
    """
    return entry.__init__ if isinstance(entry, type) else entry
