"""Times dropout and training steps, here and in other libraries.

    python scripts/bench.py
    python scripts/bench.py --parts=steps --dataset=mnist --data_dir=DIR --models=cnn
    python scripts/bench.py --parts=variants --out=docs/costs
    python scripts/bench.py --parts=populations --members=4,16 --batch_sizes=64,128
    python scripts/bench.py --parts=telemetry --models=cnn --batch_sizes=128
    python scripts/bench.py --parts=skipping --batch_sizes=128
    python scripts/bench.py --parts=loop --models='mlp(widths=())' --batch_sizes=8
    python scripts/bench.py --parts=start --models=cnn,'resnet(depth=20)' --rounds=3
    python scripts/bench.py --parts=operations --rows=4096 --dtype=bfloat16
    python scripts/bench.py --parts=loader --dataset=pictures --data_dir=DIR

The contestants of a table are timed in turn, round by round, in one process. Times are
medians, with the quartiles as their spread. The tables are printed, and `bench.json`
and `bench.png` are written to --out. `pip install -e '.[bench]'` installs PyTorch and
Keras; without them their rows are left out.
"""

from absl import flags
from rich.console import Console

from benchmarks.networks import NETWORKS
from benchmarks.parts import PARTS as MEASUREMENTS
from benchmarks.parts import measure_parts
from benchmarks.request import Request, configuration, positive_numbers
from benchmarks.tables import as_table, write
from training.flags import define_run_flags
from training.record.files import make_directory
from training.runtime.compilation import set_up
from training.runtime.main import expect_no_arguments, run_main
from training.runtime.processes import Launch

PARTS = flags.DEFINE_list(
    "parts",
    ["operations", "steps", "sites"],
    f"parts to measure: {', '.join(MEASUREMENTS)}",
)
MODELS = flags.DEFINE_list(
    "models",
    ["cnn", "cnn_same", "lenet", "mlp"],
    "networks of the training steps; the part steps takes those that other libraries "
    f"have too: {', '.join(NETWORKS)}",
)
BATCH_SIZES = flags.DEFINE_list(
    "batch_sizes", ["32", "128", "512"], "batch sizes of the training steps"
)
MICROBATCH = flags.DEFINE_integer(
    "microbatch", 128, "size of the largest micro-batch, in examples", 1
)
MEMBERS = flags.DEFINE_list("members", ["4", "16"], "sizes of the populations")
VARIANT_NAMES = flags.DEFINE_list(
    "variants", [], "variants that the part operations times (default: all)"
)
ROWS = flags.DEFINE_integer(
    "rows", 128, "number of examples in the arrays of the part operations", 1
)
DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "bfloat16"],
    "type of the arrays of the part operations",
)
ROUNDS = flags.DEFINE_integer(
    "rounds", 15, "number of rounds, in each of which every contestant is timed", 3
)
SECONDS = flags.DEFINE_float("seconds", 1.0, "length of one timing in seconds")
DATASET, DATA_DIR = define_run_flags("dataset", "data_dir")
OUT = flags.DEFINE_string("out", "runs/bench", "directory for the numbers and chart")


def main(arguments: list[str]) -> None:
    """Measure the parts, print their tables and write the files."""
    expect_no_arguments(arguments)
    request = Request(
        models=tuple(MODELS.value),
        batch_sizes=positive_numbers("batch_sizes", BATCH_SIZES.value),
        microbatch=MICROBATCH.value,
        members=positive_numbers("members", MEMBERS.value),
        variants=tuple(VARIANT_NAMES.value),
        rows=ROWS.value,
        dtype=DTYPE.value,
        rounds=ROUNDS.value,
        seconds=SECONDS.value,
        dataset=DATASET.value,
        data_dir=DATA_DIR.value,
    )
    set_up(configuration(request, "cnn", batch_size=1, dropout="none"), Launch())
    out, tables = make_directory("out", OUT.value), {}
    for title, results in measure_parts(PARTS.value, request):
        tables[title] = results
        Console().print(as_table(title, results))
    write(tables, out)
    print(f"numbers and chart in {out}")


if __name__ == "__main__":
    run_main(main)
