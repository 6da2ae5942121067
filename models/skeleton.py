"""A network of your own: python -m models.skeleton > my_network.py, then change it.

python train.py --model='my_network:Network(width=32)' --dropout='fc:bernoulli:0.5'

The network gets `channels`, `classes` and `rngs` by name; `width` is an option. Each
module is a site: `conv1`, its kernel `conv1/kernel`, and so on; `--dry_run` shows all.
"""

import jax.numpy as jnp
from flax import nnx


class Network(nnx.Module):
    """Two convolutions and two dense layers."""

    def __init__(self, channels: int, classes: int, rngs: nnx.Rngs, width: int = 16):
        self.conv1 = nnx.Conv(channels, width, (3, 3), strides=2, rngs=rngs)
        self.conv2 = nnx.Conv(width, 2 * width, (3, 3), strides=2, rngs=rngs)
        self.fc = nnx.Linear(2 * width, 128, rngs=rngs)
        self.out = nnx.Linear(128, classes, rngs=rngs)

    def __call__(self, images):
        """Map images (n, height, width, channels) to logits (n, classes)."""
        x = nnx.relu(self.conv1(images))
        x = nnx.relu(self.conv2(x))
        x = nnx.relu(self.fc(jnp.mean(x, (1, 2))))
        return self.out(x)


if __name__ == "__main__":
    with open(__file__) as file:
        print(file.read().partition("\n\n\nif __name__")[0])
