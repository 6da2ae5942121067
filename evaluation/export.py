"""A trained network as one file that JAX alone runs, on a CPU, a GPU or a TPU.

from jax import export

predictor = export.deserialize(bytearray(open(FILE, "rb").read()))
log_probabilities = predictor.call(images, ids, seed)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export
from jax.errors import InconclusiveDimensionOperation
from jaxtyping import Array, Float, Int32, Num

from dropout import named_key
from evaluation.inference import check_inference_rule, make_predict_samples
from evaluation.predictions import Run, image_shape, pixel_type
from models.convolution import plain_operations

PLATFORMS = ("cpu", "cuda", "tpu")

Exported = Callable[..., Float[Array, "samples n classes"]]


def export_run(run: Run, inference: str, samples: int, images: int = 0) -> bytes:
    """Return a run's newest state under an inference rule, as a serialised program.

    The program takes images in the shape and type of the run's, their ids (int32) and a
    seed (int32), and returns the log-probabilities of each sample, (samples, n,
    classes). With the run's seed, the images of its test split and their ids 0, 1, ...
    the log-probabilities and the masks are those of `scripts/evaluate.py`.

    Args:
        run: the trained network.
        inference: the inference rule.
        samples: the number of samples per image, for inference rules that sample.
        images: the number of images that the program takes; 0 is any number.

    Raises:
        ValueError: the inference rule does not fit the run's plan, or the network
            cannot be traced for any number of images.
    """
    check_inference_rule(inference, run.experiment.rows)
    count = images or export.symbolic_shape("n")[0]
    arguments = (
        jax.ShapeDtypeStruct((count, *image_shape(run)), pixel_type(run)),
        jax.ShapeDtypeStruct((count,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    program = jax.jit(make_exported(run, inference, samples))
    with plain_operations():
        try:
            exported = export.export(program, platforms=PLATFORMS)(*arguments)
        # In training the network was called with numbers, so what fails is the symbol.
        except (TypeError, InconclusiveDimensionOperation) as error:
            raise ValueError(
                f"--model={run.experiment.config.model} needs the number of images as "
                "an integer; expected x.shape[0] in place of len(x) in its code, or "
                "--images=N for a program that takes N images."
            ) from error
    return bytes(exported.serialize())


def make_exported(run: Run, inference: str, samples: int) -> Exported:
    """Return the function (images, ids, seed) that is exported, with its parameters."""
    predict_samples = make_predict_samples(run.experiment.objective, inference, samples)
    # On one device, whatever the mesh of the run.
    state = jax.device_put(jax.device_get(run.state._replace(opt_state=())))

    def predict(
        images: Num[Array, "n height width channels"],
        ids: Int32[Array, " n"],
        seed: Int32[Array, ""],
    ) -> Float[Array, "samples n classes"]:
        key = named_key(jax.random.key(seed, impl="threefry2x32"), "dropout")
        return predict_samples(state, named_key(key, "test"), images, ids)

    return predict
