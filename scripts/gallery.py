"""Plots what every variant does at three rates, and every schedule.

    python scripts/gallery.py --out=docs/images

It writes `variants.png`, a line of pictures for each registered variant, by family;
`schedules.png`, the factor of each registered schedule over a run; `strip.png`, six
variants side by side; `convolution.png`, how convolutions are computed on the CPU; and
`augmentations.png`, what randaugment and color_jitter make of a photograph.
"""

from absl import flags

from pages.augmentation_figure import plot_augmentations
from pages.convolution_figure import plot_convolution
from pages.figures import plot_schedules, plot_strip, plot_variants
from training.record.files import make_directory
from training.runtime.main import expect_no_arguments, run_main

OUT = flags.DEFINE_string("out", "docs/images", "directory for the pictures")


def main(arguments: list[str]) -> None:
    """Plot the five pictures."""
    expect_no_arguments(arguments)
    out = make_directory("out", OUT.value)
    plot_variants(out / "variants.png")
    plot_schedules(out / "schedules.png")
    plot_strip(out / "strip.png")
    plot_convolution(out / "convolution.png")
    plot_augmentations(out / "augmentations.png")
    print(f"five pictures in {out}")


if __name__ == "__main__":
    run_main(main)
