"""A sweep: families of arms, tuned alike on held-out examples, then tested once."""

from pathlib import Path
from typing import NamedTuple

import optuna

from studies.comparison import first_arm
from studies.families import Family, arm_of, arms_of, families, points_of
from studies.search import ask, completed, open_search, record_points, tell
from studies.selection import (
    Point,
    choice_lines,
    scored,
    validation_loss,
    winners,
    write_tuning,
)
from studies.space import Sample, parse_space
from studies.study import (
    Study,
    StudyRequest,
    collect,
    open_study,
    show_table,
    study_of,
    tasks_of,
    train_tasks,
)
from studies.tasks import finished

OPTUNA = "optuna"
SamplesByPlan = dict[str, list[Sample]]


class Sweep(NamedTuple):
    """A space of plans and flags, and the way to choose points in it.

    Attributes:
        plan: a plan that contains {names} of the space; empty for the base's plan.
        space: the text of the space.
        sampler: one of `studies.space.SAMPLERS`, or optuna.
        samples: the number of points of each family, unless they form a grid.
        batch: the number of points that optuna suggests at a time.
        baseline: the plan of the first family.
        test_seeds: the seeds of the test, which are not used to choose; empty for no
            choice and no test.
        shard: the part `i/n` of the runs that is trained.
    """

    plan: str
    space: str
    sampler: str
    samples: int
    batch: int
    baseline: str
    test_seeds: tuple[int, ...]
    shard: str


def sweep_study(sweep: Sweep, request: StudyRequest) -> None:
    """Train the unfinished runs of a sweep, choose in each family, and test once.

    Raises:
        ValueError: a plan, a space or a shard has another form, nothing is held out
            to choose by, or a seed is used both to choose and to test.
    """
    template = sweep.plan or request.base.dropout
    found = families(template, parse_space(sweep.space), sweep.baseline)
    check_selection(sweep, request)
    tune = _search if sweep.sampler == OPTUNA else _points
    samples = tune(sweep, request, found)
    study = tuning_study(sweep, request, found, samples)
    if not _whole(study):
        return
    if not sweep.test_seeds:
        show_table(study, collect(study))
        return
    points = scored(found, samples, request.base, study.trials, study.directory)
    write_tuning(points, study.directory)
    _record(study.directory, points)
    test = final_study(request, study, points, sweep.test_seeds)
    print("\n".join(test.remarks))
    train_tasks(test, tasks_of(test, request, sweep.shard), request)
    if _whole(test):
        show_table(test, collect(test))


def check_selection(sweep: Sweep, request: StudyRequest) -> None:
    """Check that a choice can be made without the test set, at seeds of its own.

    Raises:
        ValueError: it cannot.
    """
    if sweep.sampler == OPTUNA and sweep.shard != "0/1":
        raise ValueError(f"--shard={sweep.shard}: expected 0/1 with --sampler=optuna.")
    chooses = sweep.test_seeds or sweep.sampler == OPTUNA
    if chooses and not request.base.validation_examples:
        raise ValueError(
            "--validation_examples=0: expected a number above 0, since a choice must "
            "not see the test set (or --select=none, which chooses nothing)."
        )
    both = set(sweep.test_seeds) & set(request.seeds)
    if both:
        raise ValueError(
            f"--test_seeds: {min(both)} is one of --seeds, too; expected seeds that "
            "were not used to choose."
        )


def tuning_study(
    sweep: Sweep, request: StudyRequest, found: list[Family], samples: SamplesByPlan
) -> Study:
    """Return the study of all points of all families, in which nothing is compared."""
    base = request.base
    name = f"{Path(base.dataset).stem}-{base.model.partition('(')[0]}"
    arms = {arm.name: arm for arm in arms_of(base, samples, found)}
    question = f"Where in {sweep.space} is {sweep.plan or base.dropout} best?"
    return study_of(request, list(arms.values()), question, f"runs/sweep-{name}", {})


def final_study(
    request: StudyRequest, study: Study, points: list[Point], seeds: tuple[int, ...]
) -> Study:
    """Return the study of the chosen points at fresh seeds, against the baseline's."""
    arms = [point.arm for point in winners(points)]
    own = f"Is one of the tuned plans better than {arms[0].name}?"
    return study._replace(
        question=request.question or own,
        arms=arms,
        seeds=seeds,
        versus=first_arm([arm.name for arm in arms]),
        remarks=tuple(choice_lines(points, len(study.seeds))),
    )


def _points(sweep: Sweep, request: StudyRequest, found: list[Family]) -> SamplesByPlan:
    """Train the shard's part of the points of a grid or of a random sample."""
    seed = request.base.seed
    samples = {
        family.plan: points_of(family, sweep.sampler, sweep.samples, seed)
        for family in found
    }
    study = tuning_study(sweep, request, found, samples)
    train_tasks(study, tasks_of(study, request, sweep.shard), request)
    return samples


def _search(sweep: Sweep, request: StudyRequest, found: list[Family]) -> SamplesByPlan:
    """Ask for points of each family, train them and tell their losses, to the end."""
    samples: SamplesByPlan = {
        family.plan: [] if family.space else [{}] for family in found
    }
    study = tuning_study(sweep, request, found, samples)
    open_study(study)
    searches = {f: open_search(study.directory, f.plan) for f in found if f.space}
    while left := [f for f, s in searches.items() if len(completed(s)) < sweep.samples]:
        for family in left:
            _search_on(sweep, request, family, searches[family])
    samples |= {f.plan: completed(search) for f, search in searches.items()}
    study = tuning_study(sweep, request, found, samples)
    train_tasks(study, tasks_of(study, request), request)
    return samples


def _search_on(
    sweep: Sweep, request: StudyRequest, family: Family, search: optuna.Study
) -> None:
    """Train one batch of points of a family, and tell their losses."""
    base = request.base
    asked = ask(search, family.space, sweep.batch, sweep.samples, base.seed)
    samples = {family.plan: list(asked.values())}
    study = tuning_study(sweep, request, [family], samples)
    train_tasks(study, tasks_of(study, request), request)
    for number, sample in asked.items():
        name = arm_of(family, base, sample).name
        trials = [trial for trial in study.trials if trial.arm == name]
        tell(search, number, validation_loss(trials, study.directory).mean)


def _record(directory: Path, points: list[Point]) -> None:
    """Add the points that no search has asked for to the storage of Optuna."""
    for plan in dict.fromkeys(point.family.plan for point in points):
        own = [point for point in points if point.family.plan == plan]
        if own[0].family.space:
            losses = [(point.sample, point.loss.mean) for point in own]
            record_points(open_search(directory, plan), own[0].family.space, losses)


def _whole(study: Study) -> bool:
    """Return whether all runs of a study are finished, and say so if not."""
    done = sum(finished(trial, study.directory) for trial in study.trials)
    if done < len(study.trials):
        print(
            f"{done} of {len(study.trials)} runs are finished. Train the other parts, "
            "and rerun this one."
        )
    return done == len(study.trials)
