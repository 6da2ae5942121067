"""Makes a prepared data set of JPEGs of many sizes, from scikit-learn's photographs.

    python scripts/make_pictures.py --data_dir=DIR --examples=20000
    python train.py --dataset=pictures --data_dir=DIR --test_split=validation \
        --augment='resized_crop(size=224) flip' --model=resnet_imagenet

It stands for a set such as ImageNet where none is at hand: to measure how fast images
are read (`python scripts/bench.py --parts=loader`), and to try out a configuration.
"""

from pathlib import Path

from absl import flags

from benchmarks.prepared_pictures import Pictures, prepare_pictures
from training.runtime.main import expect_no_arguments, run_main

DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "directory of prepared data sets", required=True
)
NAME = flags.DEFINE_string("name", "pictures", "name of the data set")
EXAMPLES = flags.DEFINE_integer("examples", 20_000, "number of training images", 1)
VALIDATION = flags.DEFINE_integer(
    "validation_examples", 1_000, "number of images of the split validation", 1
)
SMALLEST = flags.DEFINE_integer("smallest", 160, "shortest side of an image, in pixels")
LARGEST = flags.DEFINE_integer("largest", 420, "longest side of an image, in pixels")
SEED = flags.DEFINE_integer("seed", 0, "seed for all images", 0)


def main(arguments: list[str]) -> None:
    """Make the data set, and say where it is."""
    expect_no_arguments(arguments)
    folder = Path(DATA_DIR.value, NAME.value, "1.0.0")
    wanted = Pictures(
        EXAMPLES.value, VALIDATION.value, SMALLEST.value, LARGEST.value, SEED.value
    )
    prepare_pictures(folder, wanted)
    print(f"{wanted.train:,} and {wanted.validation:,} images in {folder}")


if __name__ == "__main__":
    run_main(main)
