"""Times Monte-Carlo dropout at each site, and one plain evaluation.

    python scripts/bench_inference.py --dataset=mnist --data_dir=DIR --sites=fc
    python scripts/bench_inference.py --examples=512 --repeats=1
    python scripts/bench_inference.py --rule=shared_mc --sites=conv2/kernel

The network is untrained, which does not change its time. For each site, the script
prints the seconds of the plain network and of `--samples` samples with `bernoulli`
there, and their ratio. Each time is the shortest of `--repeats`.
"""

from absl import flags

from benchmarks.inference import InferenceRequest, configuration, inference_times
from training.flags import define_run_flags
from training.runtime.compilation import set_up
from training.runtime.main import expect_no_arguments, run_main
from training.runtime.processes import Launch

DATASET, DATA_DIR, MODEL = define_run_flags("dataset", "data_dir", "model")
SITES = flags.DEFINE_list(
    "sites", [], "sites at which to drop, one at a time (default: all)"
)
SAMPLES = flags.DEFINE_integer(
    "samples", 200, "number of Monte-Carlo samples", lower_bound=1
)
EXAMPLES = flags.DEFINE_integer(
    "examples", 0, "number of test images to predict (0: all)", lower_bound=0
)
REPEATS = flags.DEFINE_integer(
    "repeats", 3, "number of timings, of which the shortest counts", lower_bound=1
)
RULE = flags.DEFINE_enum(
    "rule",
    "mc",
    ["mc", "shared_mc"],
    "inference rule: mc (masks for each example and sample) or shared_mc (masks for "
    "each sample, which all examples share)",
)


def main(arguments: list[str]) -> None:
    """Time every site and print the table."""
    expect_no_arguments(arguments)
    request = InferenceRequest(
        dataset=DATASET.value,
        data_dir=DATA_DIR.value,
        model=MODEL.value,
        sites=tuple(SITES.value),
        samples=SAMPLES.value,
        examples=EXAMPLES.value,
        repeats=REPEATS.value,
        rule=RULE.value,
    )
    set_up(configuration(request, "none"), Launch())
    print("\n".join(inference_times(request)))


if __name__ == "__main__":
    run_main(main)
