"""Times whole runs: five epochs of MNIST in train.py and in the article's Keras script.

    python scripts/bench_end_to_end.py --data_dir=DIR

A time runs from the start of the process to its last line, with import, data,
compilation, training and evaluation. `train.py` runs with an empty cache (cold) and
again with the cache that this run leaves (warm), alternating with
`benchmarks/keras_article.py`. All use batches of 32, which is Keras' default.
"""

from absl import flags

from benchmarks.whole_runs import measure_runs
from training.runtime.main import expect_no_arguments, run_main

DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "directory of the prepared data sets", required=True
)
ROUNDS = flags.DEFINE_integer(
    "rounds", 1, "number of runs of each command", lower_bound=1
)


def main(arguments: list[str]) -> None:
    """Run all commands in turn and print the medians and their ratios to Keras."""
    expect_no_arguments(arguments)
    for line in measure_runs(DATA_DIR.value, ROUNDS.value):
        print(line, flush=True)


if __name__ == "__main__":
    run_main(main)
