"""A sweep: a study whose arms are points of a space, sampled or searched for."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from studies.arms import Arm, changed
from studies.outcomes import outcome
from studies.search import ask, completed, open_search, tell
from studies.space import Sample, fill, parse_space, sample_points
from studies.study import Study, StudyRequest, claim, pending, study_of, train_tasks
from training.canonical import canonical
from training.config import Config


class Sweep(NamedTuple):
    """A space of plans and flags, and the way to choose points in it.

    Attributes:
        plan: a plan that contains {names} of the space; empty for the base's plan.
        space: the text of the space.
        sampler: one of `studies.space.SAMPLERS`, or optuna.
        samples: the number of points, unless they form a grid.
        batch: the number of points that optuna suggests at a time.
        baseline: the plan of the first arm.
        shard: the part `i/n` of the study that is trained.
    """

    plan: str
    space: str
    sampler: str
    samples: int
    batch: int
    baseline: str
    shard: str


def train_sweep(sweep: Sweep, request: StudyRequest) -> Study:
    """Train the unfinished runs of a sweep and return it as a study.

    Raises:
        ValueError: a plan, a space or a shard has another form.
    """
    train = _train_search if sweep.sampler == "optuna" else _train_points
    return train(sweep, request)


def study_at(sweep: Sweep, request: StudyRequest, samples: list[Sample]) -> Study:
    """Return the study of some points: the baseline, then one arm per point."""
    base = request.base
    baseline = Arm("baseline", _config_of(base, {"dropout": sweep.baseline}))
    arms = {arm.name: arm for arm in (arm_of(sweep, base, s) for s in samples)}
    name = f"{Path(base.dataset).stem}-{base.model.partition('(')[0]}"
    question = f"Where in {sweep.space} is {sweep.plan} best?"
    return study_of(request, [baseline, *arms.values()], question, f"runs/sweep-{name}")


def arm_of(sweep: Sweep, base: Config, sample: Sample) -> Arm:
    """Return the arm of a point: its plan and its flags."""
    plan, values = fill(sweep.plan or base.dropout, sample)
    name = " ".join([plan, *(f"--{flag}={value}" for flag, value in values.items())])
    return Arm(name, _config_of(base, {"dropout": plan, **values}))


def validation_loss(study: Study, arm: Arm) -> float:
    """Return an arm's loss on the held-out examples, averaged over seeds."""
    rows = [
        outcome(trial, study.directory, 0.0)
        for trial in study.trials
        if trial.arm == arm.name
    ]
    return sum(row["validation_loss"] for row in rows) / len(rows)


def _train_points(sweep: Sweep, request: StudyRequest) -> Study:
    """Train the shard's part of all points."""
    space = parse_space(sweep.space)
    samples = sample_points(sweep.sampler, space, sweep.samples, request.base.seed)
    study = study_at(sweep, request, samples)
    train_tasks(study, pending(study, request.members, sweep.shard), request)
    return study


def _train_search(sweep: Sweep, request: StudyRequest) -> Study:
    """Ask for points, train them and report their losses, until all are trained."""
    base, space = request.base, parse_space(sweep.space)
    if not base.validation_examples or sweep.shard != "0/1":
        raise ValueError(
            "--sampler=optuna: expected --validation_examples above 0, since a search "
            "must not see the test set, and no --shard."
        )
    study = study_at(sweep, request, [])
    claim(study)
    search = open_search(study.directory)
    while len(completed(search)) < sweep.samples:
        asked = ask(search, space, sweep.batch, sweep.samples, base.seed)
        study = study_at(sweep, request, list(asked.values()))
        train_tasks(study, pending(study, request.members), request)
        for number, sample in asked.items():
            tell(search, number, validation_loss(study, arm_of(sweep, base, sample)))
    study = study_at(sweep, request, completed(search))
    train_tasks(study, pending(study, request.members), request)
    return study


def _config_of(base: Config, values: dict[str, str]) -> Config:
    """Return the base with flags replaced by others, and without a workdir."""
    return replace(canonical(changed(base, values)), workdir="")
