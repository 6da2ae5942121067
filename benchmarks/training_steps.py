"""The times of training steps: by library and site, with telemetry, in populations."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from benchmarks.networks import NETWORKS
from benchmarks.ours import our_training, training_arrays
from benchmarks.peers import installed
from benchmarks.request import Request, configuration, timed
from benchmarks.tables import Measured, Results
from dropout import kind_of
from dropout.kinds import ACTIVATIONS
from training.canonical import canonical
from training.experiment import prepare

SITES_BATCH = 128  # The batch size of `measure_sites`.
RESIDUAL = "resnet(depth=20)"
SKIPPING_PLANS = {
    "computed": "block*/branch:layerdrop:0.0..0.5",
    "skipped": "block*/branch:layerdrop(skip=True):0.0..0.5",
    "none": "none",
}


def measure_steps(request: Request) -> Iterator[tuple[str, Results]]:
    """Time training steps, with their data, here and in Flax, PyTorch and Keras."""
    for model, batch_size in itertools.product(request.models, request.batch_sizes):
        dropout = "fc*:bernoulli:0.5" if "dropout" in NETWORKS[model] else "none"
        experiment = prepare(configuration(request, model, batch_size, dropout))
        data = training_arrays(experiment)
        contestants = {"ours": our_training(experiment)}
        for name, make in installed().items():
            contestants[name] = make(NETWORKS[model], data, batch_size)
        title = f"training step of {model}, batch {batch_size}"
        yield title, timed(request, title, contestants)


def measure_sites(request: Request) -> Iterator[tuple[str, Results]]:
    """Time training steps with dropout at every activation, at one, and at none."""
    for model in request.models:
        configs = {
            name: configuration(request, model, SITES_BATCH, plan)
            for name, plan in plans_by_site(activations(request, model)).items()
        }
        contestants = {
            n: our_training(prepare(config)) for n, config in configs.items()
        }
        title = f"dropout at the sites of {model}, batch {SITES_BATCH}"
        yield title, timed(request, title, contestants)


def activations(request: Request, model: str) -> list[str]:
    """Return the names of a network's activation sites, in the order of their calls."""
    config = configuration(request, model, SITES_BATCH, "none")
    sites = prepare(config).network.sites
    return [site.name for site in sites if kind_of(site.name) in ACTIVATIONS]


def plans_by_site(sites: list[str]) -> dict[str, str]:
    """Return the plans to compare: dropout at no, all, some, and each single site."""
    after_convolutions = [site for site in sites if site.startswith("conv")]
    others = [site for site in sites if site not in after_convolutions]
    return {
        "none": "none",
        "every activation": bernoulli_plan(sites),
        "not before a pooling": bernoulli_plan(others),
        **{site: bernoulli_plan([site]) for site in sites},
    }


def bernoulli_plan(sites: Iterable[str]) -> str:
    """Return the plan with one rule per site."""
    return " ".join(f"{site}:bernoulli:0.2" for site in sites)


def measure_telemetry(request: Request) -> Iterator[tuple[str, Results]]:
    """Time training steps with and without telemetry at every site that has a rule."""
    for model, batch_size in itertools.product(request.models, request.batch_sizes):
        plan = "fc*:bernoulli:0.5 *:bernoulli:0.1"
        plain = configuration(request, model, batch_size, plan)
        contestants = {
            "off": our_training(prepare(plain)),
            "on": our_training(prepare(replace(plain, telemetry=True))),
        }
        title = f"telemetry in the training step of {model}, batch {batch_size}"
        yield title, timed(request, title, contestants)


def measure_skipping(request: Request) -> Iterator[tuple[str, Results]]:
    """Time training steps whose dropped branches are computed, or skipped.

    The rate rises linearly to 0.5 over depth, so that a quarter of the branches is
    dropped. Two draws in a step are mapped, and each then decides for itself: all
    branches are computed.
    """
    for batch_size, draws in itertools.product(request.batch_sizes, (1, 2)):
        configs = {
            name: configuration(request, RESIDUAL, batch_size, plan)
            for name, plan in SKIPPING_PLANS.items()
        }
        contestants = {
            name: our_training(prepare(replace(config, samples_per_step=draws)))
            for name, config in configs.items()
        }
        title = f"training step of {RESIDUAL}, batch {batch_size}, draws {draws}"
        yield title, timed(request, title, contestants)


def measure_populations(request: Request) -> Iterator[tuple[str, Results]]:
    """Time the step of a member of a population, and the step of a run of its own."""
    counts = {f"one of {count}": count for count in request.members}
    for model, batch_size in itertools.product(request.models, request.batch_sizes):
        solo = configuration(request, model, batch_size, "fc*:bernoulli:0.5")
        runs = {"solo run": our_training(prepare(solo))}
        for name, count in counts.items():
            together = canonical(replace(solo, seeds=f"0:{count}"))
            runs[name] = our_training(prepare(together))
        title = f"training step of a member, {model}, batch {batch_size}"
        results = timed(request, title, runs)
        for name, count in counts.items():
            results[name] = per_member(results[name], count)
        yield title, results


def per_member(measured: Measured, members: int) -> Measured:
    """Return the times per member of a population that was timed as a whole."""
    lower, median, upper, ratio = (value / members for value in measured[:4])
    return Measured(lower, median, upper, ratio)
