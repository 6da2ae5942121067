"""Exports a trained network as one file that JAX alone runs, without this project.

    python scripts/export.py WORKDIR --out=predictor.stablehlo --rule=mc --samples=50

The file holds the parameters and the masks' generator, and runs on CPU, NVIDIA GPU and
TPU. It takes any number of images or, with --images=N, exactly N:

    predictor = jax.export.deserialize(bytearray(open(FILE, "rb").read()))
    log_probabilities = predictor.call(images, ids, seed)  # (samples, n, classes)

Images have the shape and type of the run's; ids and seed are int32. Masks are a
function of seed, sample and id; with the run's seed and the ids of its test split, the
masks are those of evaluate.py.
"""

from pathlib import Path

import jax
from absl import flags

from evaluation.export import export_run
from evaluation.predictions import WEIGHTS
from evaluation.predictor import load_member
from training.flags import define_moved_flags
from training.record.files import replacing
from training.runtime.main import run_main

OUT = flags.DEFINE_string("out", "predictor.stablehlo", "file to write")
RULE = flags.DEFINE_string("rule", "mc", "inference rule")
SAMPLES = flags.DEFINE_integer(
    "samples", 50, "number of samples per example, for inference rules that sample", 1
)
IMAGES = flags.DEFINE_integer(
    "images", 0, "number of images that the program takes at once (0: any number)", 0
)
MEMBER = flags.DEFINE_integer(
    "member", 0, "number of the member to export, for a population", 0
)
WHICH = flags.DEFINE_enum(
    "weights",
    "last",
    WEIGHTS,
    "parameters to export: those after the last step, or their moving average (--ema "
    "in training)",
)
DATA_DIR, CACHE_DIR = define_moved_flags()


def main(arguments: list[str]) -> None:
    """Export the run of a workdir."""
    if len(arguments) != 1:
        raise ValueError("expected one argument, the workdir of a run.")
    # Otherwise the file would hold the paths of this checkout, for tracebacks.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    directories = DATA_DIR.value, CACHE_DIR.value
    run = load_member(arguments[0], MEMBER.value, *directories, WHICH.value)
    program = export_run(run, RULE.value, SAMPLES.value, IMAGES.value)
    with replacing(Path(OUT.value)) as temporary:
        temporary.write_bytes(program)
    print(f"{len(program):,} bytes in {OUT.value}")


if __name__ == "__main__":
    run_main(main)
