"""Plots overfitting, and each layer's gradient, with and without dropout.

    python scripts/overfit.py
    python scripts/overfit.py --dataset=mnist --data_dir=DIR --train_examples=1000

It trains on a small part of the training data and writes three files to --out.
`overfit.png` shows loss and accuracy of `cnn` on training and test examples, both
evaluated without dropout, with bands over seeds. `gradients.png` shows the norm of each
kernel's gradient during training, for `cnn` and a deep plain network. `overfit.csv` has
every number that is plotted.
"""

from absl import flags

from studies.overfitting import (
    OverfittingStudy,
    arms_of,
    configuration,
    summary_lines,
    train_arms,
)
from studies.overfitting_figures import plot_gradients, plot_overfitting, write_csv
from training.flags import define_run_flags
from training.record.files import make_directory
from training.record.progress import steps_shown
from training.runtime.compilation import set_up
from training.runtime.main import expect_no_arguments, run_main
from training.runtime.processes import Launch

DATASET, DATA_DIR = define_run_flags("dataset", "data_dir")
EXAMPLES = flags.DEFINE_integer("train_examples", 200, "number of training examples", 1)
EPOCHS = flags.DEFINE_integer(
    "epochs", 60, "number of passes over the training examples", 1
)
SEEDS = flags.DEFINE_integer(
    "seeds", 5, "number of runs per arm, with the seeds 0, 1, 2, ...", 1
)
DEPTH = flags.DEFINE_integer(
    "depth", 12, "number of convolutions of the plain network", 1
)
OUT = flags.DEFINE_string(
    "out", "runs/overfit", "directory for the pictures and numbers"
)


def main(arguments: list[str]) -> None:
    """Train every arm and seed, plot both figures and print a summary."""
    expect_no_arguments(arguments)
    study = OverfittingStudy(
        dataset=DATASET.value,
        data_dir=DATA_DIR.value,
        train_examples=EXAMPLES.value,
        epochs=EPOCHS.value,
        seeds=SEEDS.value,
        depth=DEPTH.value,
    )
    arms = arms_of(study)
    set_up(configuration(study, arms[-1], seed=0), Launch())
    out = make_directory("out", OUT.value)
    measurements = train_arms(study, steps_shown(arms, "training"))
    write_csv(measurements, out / "overfit.csv")
    plot_overfitting(study, measurements, out / "overfit.png")
    plot_gradients(measurements, out / "gradients.png")
    print("\n".join(summary_lines(measurements)))
    print(f"pictures and numbers in {out}")


if __name__ == "__main__":
    run_main(main)
