"""Measures dropout against a multiplication, and training steps against others.

    python scripts/bench.py
    python scripts/bench.py --parts=steps --dataset=mnist --data_dir=DIR --models=cnn
    python scripts/bench.py --parts=variants --out=docs/costs
    python scripts/bench.py --parts=populations --members=4,16 --batch_sizes=64,128
    python scripts/bench.py --parts=telemetry --models=cnn --batch_sizes=128
    python scripts/bench.py --parts=operations --rows=4096 --dtype=bfloat16

Every table is measured with its contestants interleaved, round by round, in one
process; times are medians, with the quartiles as their spread. Prints the tables and
writes `bench.json` and `bench.png` to --out. `pip install -e '.[bench]'` brings PyTorch
and Keras; without them their columns are left out.
"""

import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import app, flags
from rich.console import Console

from benchmarks import variants
from benchmarks.networks import NETWORKS
from benchmarks.operations import (
    bytes_kept,
    draw_of,
    forward_backward,
    linen_dropout,
    nnx_dropout,
)
from benchmarks.ours import our_training, training_arrays
from benchmarks.peers import installed
from benchmarks.tables import (
    Measured,
    Results,
    as_json,
    as_table,
    draw,
    machine,
)
from benchmarks.timing import Calls, measure
from benchmarks.with_torch import torch_dropouts
from dropout import VARIANTS, kind_of
from dropout.kinds import ACTIVATIONS
from training.config import Config, canonical
from training.experiment import prepare
from training.runtime.devices import keep_freed_memory

PARTS = flags.DEFINE_list("parts", ["operations", "steps", "sites"], "what to measure")
MODELS = flags.DEFINE_list(
    "models",
    ["cnn", "cnn_same", "lenet", "mlp"],
    f"of the steps: {', '.join(NETWORKS)}",
)
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["32", "128", "512"], "of the steps")
MICROBATCH = flags.DEFINE_integer("microbatch", 128, "largest micro-batch, ours only")
MEMBERS = flags.DEFINE_list("members", ["4", "16"], "sizes of the populations")
VARIANT_NAMES = flags.DEFINE_list("variants", [], "of the operations (default: all)")
ROWS = flags.DEFINE_integer("rows", 128, "examples of the operations", lower_bound=1)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "of the operations"
)
ROUNDS = flags.DEFINE_integer("rounds", 15, "measurements of each", lower_bound=3)
SECONDS = flags.DEFINE_float("seconds", 1.0, "length of one measurement")
DATASET = flags.DEFINE_string("dataset", "digits", "as in train.py")
DATA_DIR = flags.DEFINE_string("data_dir", "", "as in train.py")
OUT = flags.DEFINE_string("out", "runs/bench", "where the numbers and the chart go")

SHAPE = (26, 26, 32)  # of an example in the operations


def main(argv: list[str]) -> None:
    """Measures the parts asked for, prints their tables and writes the files."""
    unknown = set(PARTS.value) - set(MEASUREMENTS)
    if unknown or len(argv) > 1:
        raise app.UsageError(
            f"--parts={PARTS.value}: expected some of {[*MEASUREMENTS]}."
        )
    strangers = set(MODELS.value) - set(NETWORKS)
    if strangers and "steps" in PARTS.value:
        raise app.UsageError(
            f"--models={','.join(MODELS.value)}: for steps expected some of "
            f"{[*NETWORKS]}."
        )
    keep_freed_memory()
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Results] = {}
    for part in PARTS.value:
        for title, results in MEASUREMENTS[part]():
            tables[title] = results
            Console().print(as_table(title, results))
    record = {"machine": machine(), "tables": as_json(tables)}
    (out / "bench.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(tables, out / "bench.png")
    print(f"numbers and chart in {out}")


def timed(title: str, contestants: dict[str, Calls]) -> Results:
    """All contestants, as the flags say."""
    return measure(title, contestants, ROUNDS.value, SECONDS.value)


def measure_operations():
    """Dropout forward and backward against a multiplication by a constant."""
    key, rate, shape = jax.random.key(0), jnp.float32(0.5), (ROWS.value, *SHAPE)
    x, cotangent = jax.random.normal(key, (2, *shape), DTYPE.value)
    functions = {
        "constant": lambda key, rate, x: x * jnp.asarray(0.5, x.dtype),
        "copy": lambda key, rate, x: jnp.copy(x),
    }
    for name, variant in VARIANTS.items():
        wanted = not VARIANT_NAMES.value or name in VARIANT_NAMES.value
        if wanted and {"activation", "branch"} & set(variant.kinds):
            functions[name] = partial(draw_of, variant)
    functions["flax.linen.Dropout"] = linen_dropout
    functions["flax.nnx.Dropout"] = nnx_dropout
    arguments = (key, rate, x, cotangent)
    contestants = {n: forward_backward(f, arguments) for n, f in functions.items()}
    results = timed("operations", contestants | torch_dropouts(shape, DTYPE.value))
    for name, function in functions.items():
        kept = bytes_kept(function, key, rate, x)
        results[name] = results[name]._replace(kept=kept)
    size = "x".join(map(str, shape))
    yield f"dropout forward and backward, {size} {DTYPE.value}", results


def measure_variants():
    """Every variant at a site of its kind, against the plain network there."""
    key = jax.random.key(0)
    for kind, functions in variants.groups():
        shape = variants.SHAPES[kind]
        x = jax.random.uniform(key, shape)
        y = jax.eval_shape(functions["plain"], key, 0.5, x)
        arguments = (key, jnp.float32(0.5), x, jnp.ones(y.shape, y.dtype))
        contestants = {n: forward_backward(f, arguments) for n, f in functions.items()}
        size = "x".join(map(str, shape))
        yield f"variants at {kind}, {size} float32", timed(kind, contestants)


def measure_steps():
    """Whole training steps, data included, against the peers."""
    for model in MODELS.value:
        for batch_size in map(int, BATCH_SIZES.value):
            dropout = "fc*:bernoulli:0.5" if "dropout" in NETWORKS[model] else "none"
            config = configuration(model, batch_size, dropout)
            experiment = prepare(config)
            data = training_arrays(experiment)
            contestants = {"ours": our_training(experiment)}
            for name, make in installed().items():
                contestants[name] = make(NETWORKS[model], data, batch_size)
            title = f"training step of {model}, batch {batch_size}"
            yield title, timed(title, contestants)


def measure_sites():
    """Training steps with dropout at every activation, or at one site, against none."""
    for model in MODELS.value:
        sites = prepare(configuration(model, 128, "none")).network.sites
        activations = [site for site in sites if kind_of(site) in ACTIVATIONS]
        between = [site for site in activations if site.startswith("conv")]
        plans = {
            "none": "none",
            "every activation": bernoulli(activations),
            "not before a pooling": bernoulli(set(activations) - set(between)),
            **{site: bernoulli([site]) for site in activations},
        }
        contestants = {
            name: our_training(prepare(configuration(model, 128, plan)))
            for name, plan in plans.items()
        }
        title = f"dropout at the sites of {model}, batch 128"
        yield title, timed(title, contestants)


def measure_telemetry():
    """Training steps that are watched at every site with a rule, against the same."""
    for model, text in itertools.product(MODELS.value, BATCH_SIZES.value):
        plain = configuration(model, int(text), "fc*:bernoulli:0.5 *:bernoulli:0.1")
        contestants = {
            "off": our_training(prepare(plain)),
            "on": our_training(prepare(replace(plain, telemetry=True))),
        }
        title = f"telemetry in the training step of {model}, batch {text}"
        yield title, timed(title, contestants)


def measure_populations():
    """A member's step in populations against that of a solo run."""
    for model, text in itertools.product(MODELS.value, BATCH_SIZES.value):
        solo = configuration(model, int(text), "fc:bernoulli:0.5")
        counts = {f"one of {size}": int(size) for size in MEMBERS.value}
        runs = {"solo run": our_training(prepare(solo))}
        for name, count in counts.items():
            together = canonical(replace(solo, seeds=f"0:{count}"))
            runs[name] = our_training(prepare(together))
        title = f"training step of a member, {model}, batch {text}"
        results = timed(title, runs)
        for name, count in counts.items():
            results[name] = per_member(results[name], count)
        yield title, results


def per_member(measured: Measured, members: int) -> Measured:
    """The times of one of so many members."""
    lower, median, upper, ratio = (value / members for value in measured[:4])
    return Measured(lower, median, upper, ratio)


MEASUREMENTS = {
    "operations": measure_operations,
    "variants": measure_variants,
    "steps": measure_steps,
    "sites": measure_sites,
    "populations": measure_populations,
    "telemetry": measure_telemetry,
}


def bernoulli(sites) -> str:
    """The plan of one rule a site."""
    return " ".join(f"{site}:bernoulli:0.2" for site in sites)


def configuration(model: str, batch_size: int, dropout: str) -> Config:
    """A run of train.py, in micro-batches where its batch is large."""
    return canonical(
        Config(
            dataset=DATASET.value,
            data_dir=DATA_DIR.value,
            model=model,
            batch_size=batch_size,
            microbatches=max(1, batch_size // MICROBATCH.value),
            dropout=dropout,
            mesh="data:1",
        )
    )


if __name__ == "__main__":
    app.run(main)
