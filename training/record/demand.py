"""What a run will take, known before anything is compiled: FLOPs, and bytes to read."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from dropout import identity
from training.data.resident import is_resident
from training.experiment import Experiment
from training.network import Tree
from training.programs import compile_step
from training.start import start_state

# Forward, and backward to the activations and to the parameters: each about as much.
PASSES = 3
SUSTAINED = 100e12  # FLOPs per second and device, for which the loader's rate is told.


def demand(experiment: Experiment) -> list[str]:
    """Return the lines of a dry run on the FLOPs of a step and the rate of reading.

    FLOPs are counted by XLA in the program that is not compiled; of the rate at which
    a device computes nothing is known, so that the loader's is told for `SUSTAINED`.
    """
    forward, batch = forward_flops(experiment), experiment.config.batch_size
    draws, runs = experiment.objective.draws, len(experiment.runs)
    example = PASSES * draws * forward
    images = SUSTAINED / example
    size = example_bytes(experiment)
    told = "they lie on the devices, and are read once"
    if not is_resident(experiment):
        told = f"the loader must deliver {images * size / 1e6:,.0f} MB/s"
    return [
        f"{example * batch * runs:.3g} FLOPs a step: {PASSES * draws} times the "
        f"{forward:.3g} of an example's forward pass, {batch * runs} examples",
        f"a device that sustains {SUSTAINED:.0e} FLOP/s takes {images:,.0f} examples "
        f"a second, of {size:,} bytes each; {told}",
    ]


def forward_flops(experiment: Experiment) -> float:
    """Return the FLOPs of the forward pass of an example, by XLA's own convolutions."""
    network = experiment.network
    forward = network.forward_by("direct")
    images, _ = experiment.data.train.shapes(1)

    def logits(params: Tree, stats: Tree, images: jax.Array) -> jax.Array:
        return forward(
            params, stats, experiment.objective.standardise(images), identity
        )[0]

    lowered = jax.jit(logits).lower(network.params, network.stats, images)
    found: Any = lowered.cost_analysis()
    return float(found["flops"])


def compiled_cost(experiment: Experiment) -> list[str]:
    """Compile the training step for the devices here; return what XLA says of it.

    The sizes are those of one device. The batch is an argument; data in memory, which
    a run keeps on every device, are not counted.
    """
    step, _ = compile_step(experiment, start_state(experiment))
    sizes, flops = step.memory_analysis(), step.cost_analysis()["flops"]
    arguments, temporary = sizes.argument_size_in_bytes, sizes.temp_size_in_bytes
    new = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    device = experiment.mesh.devices.flat[0]
    parts = {
        "parameters, optimiser state and batch": arguments,
        "what the step keeps while it computes": temporary,
        "results that are not written over arguments": new,
        "together": arguments + temporary + new,
    }
    return [
        f"{flops:.3g} FLOPs a step on each device, the body of a loop counted once",
        f"memory on each of {experiment.mesh.size} x {device.device_kind}:",
        *(f"{size / 1e6:12,.1f} MB  {name}" for name, size in parts.items()),
    ]


def example_bytes(experiment: Experiment) -> int:
    """Return the bytes of an image and its label, as they are copied to a device."""
    return sum(
        math.prod(part.shape) * jnp.dtype(part.dtype).itemsize
        for part in experiment.data.train.shapes(1)
    )
