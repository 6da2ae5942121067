"""The time of Monte-Carlo dropout and of one plain evaluation, by site.

The network is untrained, which does not change its time.
"""

import time
from typing import NamedTuple

from dropout import kind_of, parse, resolve
from evaluation.predictions import Part, Run, held_out, predict_part, prepare_inference
from training.canonical import canonical
from training.config import Config
from training.experiment import prepare
from training.record.console import aligned
from training.start import start_state

BERNOULLI_KINDS = ("activation", "input", "pre", "kernel")


class InferenceRequest(NamedTuple):
    """The values of the flags of `scripts/bench_inference.py`.

    Attributes:
        sites: the sites of the dropout, one at a time; empty for all.
        samples: the number of Monte-Carlo samples.
        examples: the number of test images; 0 for all.
        repeats: how often each time is measured; the shortest counts.
        rule: the inference rule: `mc` or `shared_mc`.
    """

    dataset: str
    data_dir: str
    model: str
    sites: tuple[str, ...]
    samples: int
    examples: int
    repeats: int
    rule: str


def inference_times(request: InferenceRequest) -> list[str]:
    """Return a table of the seconds of the plain network and of Monte-Carlo, by site.

    Raises:
        ValueError: a data set, network or site does not exist.
    """
    plans = {name: f"{name}:bernoulli:0.5" for name in sites_to_time(request)}
    lines = [(n, *times_of(request, untrained(request, p))) for n, p in plans.items()]
    samples = f"{request.samples} samples (s)"
    return aligned([("site", "plain (s)", samples, "ratio"), *lines])


def sites_to_time(request: InferenceRequest) -> tuple[str, ...]:
    """Return the requested sites, or all sites where bernoulli can act.

    Raises:
        ValueError: the network does not have a requested site.
    """
    sites = tuple(s.name for s in untrained(request, "none").experiment.network.sites)
    for name in request.sites:
        resolve(parse(f"{name}:bernoulli:0.5"), sites)
    return request.sites or tuple(s for s in sites if kind_of(s) in BERNOULLI_KINDS)


def times_of(request: InferenceRequest, run: Run) -> tuple[str, str, str]:
    """Return the seconds of the plain network and of the samples, and their ratio."""
    test = held_out(run, "test", request.examples)
    plain, sampled = (
        shortest_time(request, run, inference, test)
        for inference in ("plain", request.rule)
    )
    return f"{plain:.3f}", f"{sampled:.3f}", f"{sampled / plain:.2f}"


def untrained(request: InferenceRequest, plan: str) -> Run:
    """Return an untrained network with a plan."""
    experiment = prepare(configuration(request, plan))
    return Run(experiment, start_state(experiment))


def configuration(request: InferenceRequest, plan: str) -> Config:
    """Return the configuration of a network with a plan, on one device.

    Raises:
        ValueError: `train.py` does not accept the network or the plan.
    """
    config = Config(
        dataset=request.dataset,
        data_dir=request.data_dir,
        model=request.model,
        dropout=plan,
        mesh="data:1",
        convolution="windows",
    )
    return canonical(config)


def shortest_time(
    request: InferenceRequest, run: Run, inference: str, test: Part
) -> float:
    """Return the shortest time, in seconds, in which all images are predicted."""
    predict = prepare_inference(run, inference, request.samples)
    predict_part(run, predict, test.first(1))  # The first call loads the program.
    times = []
    for _ in range(request.repeats):
        begin = time.perf_counter()
        predict_part(run, predict, test)
        times.append(time.perf_counter() - begin)
    return min(times)
