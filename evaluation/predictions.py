"""What one finished run is worth under each rule of inference: answers and measures."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num

from dropout import named_key
from evaluation import measures as metrics
from evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from evaluation.inference import Predict, check_rule, make_predict
from evaluation.measures import Samples
from training.config import canonical
from training.data import sources
from training.experiment import Experiment, of_run, prepare
from training.runtime.checkpoints import restore
from training.runtime.devices import make_mesh, replicated
from training.state import State

Images = Num[np.ndarray, "n height width channels"]
Labels = Int[np.ndarray, " n"]
Measures = dict[str, float]
Severities = dict[str, dict[str, list[float]]]

SCORES: dict[str, Callable[..., float]] = {
    "accuracy": metrics.accuracy,
    "negative log-likelihood": metrics.negative_log_likelihood,
    "Brier score": metrics.brier_score,
    "ECE, equal width": metrics.expected_calibration_error,
    "ECE, equal mass": partial(
        metrics.expected_calibration_error, edges=metrics.equal_mass
    ),
    "class-wise ECE": metrics.classwise_calibration_error,
    "adaptive ECE": partial(
        metrics.classwise_calibration_error, edges=metrics.equal_mass
    ),
}
UNCERTAINTIES: dict[str, Callable[[Samples], metrics.PerExample]] = {
    "predictive entropy": lambda samples: metrics.entropy(metrics.averaged(samples)),
    "expected entropy": metrics.expected_entropy,
    "mutual information": metrics.mutual_information,
    "variation ratio": metrics.variation_ratio,
}


class Run(NamedTuple):
    """A trained network with all that it was made of."""

    experiment: Experiment
    state: State

    @property
    def classes(self) -> int:
        """The number of classes that it tells apart."""
        return self.experiment.data.classes


class Part(NamedTuple):
    """Examples to be answered: their split's name, images, labels and ids."""

    name: str
    images: Images
    labels: Labels
    ids: Int[np.ndarray, " n"]


def load_runs(workdir: str, data_dir: str) -> list[Run]:
    """The newest state of a run, or of every member of a population.

    Args:
        workdir: of the run.
        data_dir: stands for the run's own unless empty.

    Raises:
        ValueError: no run, no checkpoint, no data, or a run on text.
    """
    config, state = restore(workdir)
    if data_dir:
        config = canonical(replace(config, data_dir=data_dir))
    experiment = prepare(config)
    if np.ndim(experiment.data.test.fetch(np.zeros(1, np.int32))[1]) > 1:
        raise ValueError(f"{workdir}: a run on text; expected one on images.")
    if not experiment.members:
        return [Run(experiment, state)]
    mesh = make_mesh("data:1")
    return [
        Run(
            member._replace(mesh=mesh),
            jax.device_put(of_run(experiment, state, number), replicated(mesh)),
        )
        for number, member in enumerate(experiment.members)
    ]


def held_out(run: Run, split: str, most: int) -> Part:
    """The first examples of the split `test` or `validation`, `most` (0: all)."""
    experiment = run.experiment
    source = experiment.data.test
    ids = np.arange(source.size, dtype=np.int32)
    if split == "validation":
        source, ids = experiment.data.train, experiment.validation_ids
    ids = ids[: most or None]
    images, labels = map(np.asarray, source.fetch(ids))
    return Part(split, images, labels, ids)


def elsewhere(run: Run, dataset: str, most: int) -> Part:
    """Test examples of another data set, resized and in as many channels.

    Raises:
        ValueError: its pixels are of another type than the run's.
    """
    config = run.experiment.config
    test = sources.load(dataset, config.data_dir, config.cache_dir).test
    ids = np.arange(min(test.size, most or test.size), dtype=np.int32)
    images, labels = map(np.asarray, test.fetch(ids))
    own, _ = run.experiment.data.test.fetch(np.zeros(1, np.int32))
    if images.dtype != own.dtype:
        raise ValueError(
            f"--out_of_distribution={dataset} is {images.dtype}, and the run's images "
            f"are {own.dtype}; expected the same."
        )
    return Part("out of distribution", _in_form(images, own.shape[1:]), labels, ids)


def answer(run: Run, predict: Predict, part: Part) -> Samples:
    """The log-probabilities of every sample; masks belong to the part by name."""
    key = named_key(run.experiment.keys["dropout"], part.name)
    return predict(run.state, key, part.images, part.ids)


def prepare_rule(run: Run, rule: str, samples: int, most: int = 512) -> Predict:
    """`make_predict`, after a check that the rule fits the run."""
    check_rule(rule, run.experiment.rows)
    return make_predict(run.experiment, run.state, rule, samples, most)


def measure(samples: Samples, labels: Labels) -> Measures:
    """All scores and mean uncertainties of answers to labelled examples."""
    predicted = metrics.averaged(samples)
    correct = predicted.argmax(-1) == labels
    confidence = np.exp(predicted.max(-1))
    return {
        **{name: score(predicted, labels) for name, score in SCORES.items()},
        "AURC": metrics.area_under_risk_coverage(confidence, correct),
        **{name: float(of(samples).mean()) for name, of in UNCERTAINTIES.items()},
    }


def measure_tempered(
    samples: Samples, labels: Labels, held: Samples, held_labels: Labels
) -> Measures:
    """The scores that temperature changes, fitted on held-out answers."""
    temperature = metrics.fit_temperature(held, held_labels)
    tempered = metrics.averaged(metrics.temper(samples, temperature))
    names = ("negative log-likelihood", "Brier score", "ECE, equal width")
    return {
        "temperature": temperature,
        **{f"{name}, tempered": SCORES[name](tempered, labels) for name in names},
    }


def measure_outside(inside: Samples, outside: Samples) -> Measures:
    """How well each uncertainty tells examples of another data set.

    Samples do not disagree where there is but one: those that measure it are left out.
    """
    found = {}
    for name, of in UNCERTAINTIES.items():
        values = of(inside), of(outside)
        if any(part.any() for part in values):
            auroc = metrics.out_of_distribution_auroc(*values)
            found[f"AUROC by {name}"] = auroc
    return found


def measure_corrupted(
    run: Run, predict: Predict, part: Part, clean: Samples, names: list[str]
) -> Severities:
    """Scores of each corruption at severities 0, which is `clean`, to 5."""
    key = named_key(run.experiment.keys["data"], "corruptions")
    limits = (float(part.images.min()), float(part.images.max()))
    found: Severities = {}
    for name in names:
        answers = [clean]
        for severity in SEVERITIES:
            ids = jnp.asarray(part.ids)
            images = corrupt(name, severity, key, part.images, ids, *limits)
            corrupted = part._replace(images=np.asarray(images))
            answers.append(answer(run, predict, corrupted))
        predicted = [metrics.averaged(samples) for samples in answers]
        found[name] = {
            score: [of(each, part.labels) for each in predicted]
            for score, of in SCORES.items()
        }
    return found


def check_corruptions(text: str) -> list[str]:
    """The corruptions that a flag names, or all of them.

    Raises:
        ValueError: there is no such corruption.
    """
    names = list(CORRUPTIONS) if text == "all" else [n for n in text.split(",") if n]
    for name in names:
        if name not in CORRUPTIONS:
            raise ValueError(
                f"--corruptions={name}: expected all, or some of "
                f"{', '.join(CORRUPTIONS)}."
            )
    return names


def errors_by_samples(
    samples: Samples, labels: Labels, counts: list[int], orders: int
) -> Float[np.ndarray, "orders counts 2"]:
    """Error and negative log-likelihood of averages of the first k in random orders."""
    random = np.random.default_rng(0)
    probabilities = np.exp(samples)
    found = []
    for _ in range(orders):
        order = random.permutation(len(samples))
        total, done, line = np.zeros(probabilities.shape[1:]), 0, []
        for count in counts:
            total = total + probabilities[order[done:count]].sum(0)
            done = count
            predicted = np.log(np.maximum(total / count, np.finfo(np.float32).tiny))
            wrong = 1 - metrics.accuracy(predicted, labels)
            line.append((wrong, metrics.negative_log_likelihood(predicted, labels)))
        found.append(line)
    return np.asarray(found)


def _in_form(
    images: Images, shape: tuple[int, ...]
) -> Num[np.ndarray, "n rows columns colours"]:
    """Images in another height, width and number of channels."""
    values = images.astype(np.float32)
    if values.shape[-1] != shape[-1]:
        values = np.repeat(values.mean(-1, keepdims=True), shape[-1], -1)
    if values.shape[1:3] != shape[:2]:
        values = np.asarray(jax.image.resize(values, (len(values), *shape), "linear"))
    return np.round(values).astype(np.uint8) if images.dtype == np.uint8 else values
