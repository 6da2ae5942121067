"""Writes the random words of the masks to the standard output, without end.

    python scripts/stream_bits.py | dieharder -a -g 200
    python scripts/stream_bits.py --bits=jax | dieharder -a -g 200

In the order in which training consumes them: in each epoch, batch by batch, the sites
of `cnn`, and of each the words of all examples, element by element.
"""

import itertools
import sys
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jaxtyping import Array, Int, Key, UInt32

from dropout.bits import random_bits, row_seeds
from dropout.keys import JaxBits, example_keys, fold, named_key

BITS = flags.DEFINE_enum(
    "bits", "hash", ["hash", "jax"], "the generator, as in train.py"
)
SEED = flags.DEFINE_integer("seed", 0, "of the run")

EXAMPLES, BATCH = 60_000, 125
SITES = {
    "conv1": (26, 26, 32),
    "pool1": (13, 13, 32),
    "conv2": (11, 11, 64),
    "fc": (128,),
}


def main(argv: list[str]) -> None:
    """Writes words until nobody reads any more."""
    key = named_key(named_key(jax.random.key(SEED.value), "dropout"), "train")
    try:
        for words in stream(key):
            sys.stdout.buffer.write(np.asarray(words).tobytes())
    except BrokenPipeError:
        sys.stderr.close()


def stream(key: Key[Array, ""]) -> Iterator[UInt32[Array, "..."]]:
    """The words of each site, batch and epoch in turn."""
    for epoch in itertools.count():
        for first in range(0, EXAMPLES, BATCH):
            examples = jnp.arange(first, first + BATCH)
            for site in SITES:
                yield words_of(site, fold(key, epoch), examples)


@partial(jax.jit, static_argnums=0)
def words_of(
    site: str, key: Key[Array, ""], examples: Int[Array, " n"]
) -> UInt32[Array, "n ..."]:
    """The words of a site's masks of some examples, in an epoch whose key is given."""
    keys = example_keys(named_key(fold(key, 0), site), examples)
    seeds = row_seeds(JaxBits(keys) if BITS.value == "jax" else keys, len(examples))
    return random_bits(seeds, (len(examples), *SITES[site]))


if __name__ == "__main__":
    app.run(main)
