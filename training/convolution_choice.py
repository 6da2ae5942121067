"""The choice of the algorithm that computes the convolutions of a run."""

from dataclasses import replace

import jax

from dropout import Row, Timeline, kind_of
from training.config import Config
from training.network import Network

# How many multiplications of a convolution a run computes until the faster steps of
# `windows` have made up for its compilation. In CPU time, each 1e9 take 0.1 s less, and
# a convolution takes 4 s more to compile in `cnn`, which pools them, and 0.4 s more in
# ResNet-20 (`scripts/bench.py --parts=start,steps`): this lies between the two.
WORTH_COMPILING = 1.2e10


def with_algorithm(
    config: Config, network: Network, rows: tuple[Row, ...], timeline: Timeline
) -> Config:
    """Return the configuration with the chosen algorithm in place of `auto`.

    The choice depends on the configuration and the data alone, and for a member of a
    population it is that of its solo run.
    """
    if config.convolution != "auto":
        return config
    examples = timeline.total * config.batch_size
    short = examples * sum(network.multiplications) < WORTH_COMPILING * len(
        network.multiplications
    )
    # With a kernel for each example, XLA's convolutions take many times as long.
    shared = not any(kind_of(row.site) == "kernel" for row in rows)
    direct = short and shared and jax.default_backend() == "cpu"
    return replace(config, convolution="direct" if direct else "windows")
