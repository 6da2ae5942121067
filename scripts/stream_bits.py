"""Writes the random words of the masks to standard output, endlessly.

    python scripts/stream_bits.py | dieharder -a -g 200
    python scripts/stream_bits.py --bits=jax | dieharder -a -g 200

The words come in the order in which training consumes them: in each epoch, batch by
batch, the sites of `cnn`, and for each site the words of all examples, element by
element.
"""

import itertools
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Array, Int, Key, UInt32

from dropout.bits import random_bits, row_seeds
from dropout.keys import JaxBits, example_keys, fold, named_key
from training.runtime.compilation import compiled
from training.runtime.main import expect_no_arguments, run_main

BITS = flags.DEFINE_enum(
    "bits", "hash", ["hash", "jax"], "generator of the masks, as in train.py"
)
SEED = flags.DEFINE_integer("seed", 0, "seed of the run")

EXAMPLES, BATCH = 60_000, 125
SITES = {
    "conv1": (26, 26, 32),
    "pool1": (13, 13, 32),
    "conv2": (11, 11, 64),
    "fc": (128,),
}


def main(arguments: list[str]) -> None:
    """Write words until the reader closes the pipe."""
    expect_no_arguments(arguments)
    key = named_key(named_key(jax.random.key(SEED.value), "dropout"), "train")
    try:
        for words in stream(key, BITS.value):
            sys.stdout.buffer.write(np.asarray(words).tobytes())
    except BrokenPipeError:
        sys.stderr.close()


def stream(key: Key[Array, ""], bits: str) -> Iterator[UInt32[Array, "..."]]:
    """Yield the words of each epoch, batch and site in turn."""
    programs = {site: compiled(words_at(site, bits)) for site in SITES}
    for epoch in itertools.count():
        for first in range(0, EXAMPLES, BATCH):
            examples = jnp.arange(first, first + BATCH)
            for words_of in programs.values():
                yield words_of(fold(key, epoch), examples)


def words_at(site: str, bits: str) -> Callable[..., UInt32[Array, "n ..."]]:
    """Return a function of an epoch's key and examples: the words of a site's masks."""

    def words_of(
        key: Key[Array, ""], examples: Int[Array, " n"]
    ) -> UInt32[Array, "n ..."]:
        keys = example_keys(named_key(fold(key, 0), site), examples)
        seeds = row_seeds(JaxBits(keys) if bits == "jax" else keys, len(examples))
        return random_bits(seeds, (len(examples), *SITES[site]))

    return words_of


if __name__ == "__main__":
    run_main(main)
