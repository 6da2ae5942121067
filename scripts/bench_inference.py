"""Times Monte-Carlo dropout against one plain evaluation, by where the dropout is.

    python scripts/bench_inference.py --dataset=mnist --data_dir=DIR --sites=fc
    python scripts/bench_inference.py --examples=512 --repeats=1

Of an untrained network, whose time is that of a trained one. Prints seconds for the
plain network and for `--samples` samples of `bernoulli` at each site, and their ratio.
Both are the shortest of `--repeats`.
"""

import sys
import time

from absl import app, flags, logging

from dropout import kind_of
from evaluation import predictions as evaluation
from evaluation.predictions import Part, Run
from training.config import Config, canonical
from training.experiment import prepare, start_state
from training.record.console import aligned

DATASET = flags.DEFINE_string("dataset", "digits", "as in train.py")
DATA_DIR = flags.DEFINE_string("data_dir", "", "as in train.py")
MODEL = flags.DEFINE_string("model", "cnn", "as in train.py")
SITES = flags.DEFINE_list("sites", [], "where, one at a time (default: everywhere)")
SAMPLES = flags.DEFINE_integer("samples", 200, "of Monte-Carlo", lower_bound=1)
EXAMPLES = flags.DEFINE_integer("examples", 0, "test images, 0: all", lower_bound=0)
REPEATS = flags.DEFINE_integer("repeats", 3, "of each measurement", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures every placement and prints the table."""
    logging.set_verbosity(logging.FATAL)
    try:
        lines = [measure(site) for site in SITES.value or placements()]
    except ValueError as error:
        sys.exit(f"bench_inference.py: {error}")
    samples = f"{SAMPLES.value} samples (s)"
    print("\n".join(aligned([("site", "plain (s)", samples, "ratio"), *lines])))


def placements() -> tuple[str, ...]:
    """Where bernoulli can act in the network, from the input to the output."""
    kinds = ("activation", "input", "pre", "kernel")
    sites = prepare_run("none").experiment.network.sites
    return tuple(site for site in sites if kind_of(site) in kinds)


def measure(site: str) -> tuple[str, ...]:
    """A line of the table."""
    run = prepare_run(f"{site}:bernoulli:0.5")
    test = evaluation.held_out(run, "test", EXAMPLES.value)
    plain, sampled = (seconds(run, rule, test) for rule in ("plain", "mc"))
    return site, f"{plain:.3f}", f"{sampled:.3f}", f"{sampled / plain:.2f}"


def prepare_run(plan: str) -> Run:
    """An untrained network with a plan, on one device."""
    config = Config(
        dataset=DATASET.value, data_dir=DATA_DIR.value, model=MODEL.value,
        dropout=plan, mesh="data:1",
    )  # fmt: skip
    experiment = prepare(canonical(config))
    return Run(experiment, start_state(experiment))


def seconds(run: Run, rule: str, test: Part) -> float:
    """The shortest time that the answers to all images take, compiled before."""
    predict = evaluation.prepare_rule(run, rule, SAMPLES.value)
    evaluation.answer(run, predict, _first(test))
    times = []
    for _ in range(REPEATS.value):
        begin = time.perf_counter()
        evaluation.answer(run, predict, test)
        times.append(time.perf_counter() - begin)
    return min(times)


def _first(test: Part) -> Part:
    """One image of a part, to warm up with."""
    return test._replace(
        images=test.images[:1], labels=test.labels[:1], ids=test.ids[:1]
    )


if __name__ == "__main__":
    app.run(main)
