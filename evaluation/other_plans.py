"""Other plans at inference: dropout put into a network that was trained without it.

The rates are those of the last completed step, as for the plan of training; the run's
own `--rate_factor` does not multiply them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num
from scipy.optimize import minimize_scalar

from dropout import VARIANTS, Plan, Row, parse, resolve, scale_rates, with_rates
from evaluation import measures
from evaluation.evaluate import (
    EvaluationRequest,
    InferenceResult,
    evaluate_inference_rule,
)
from evaluation.inference import (
    PredictSamples,
    compile_in_chunks,
    make_predict_samples,
    missing_for,
)
from evaluation.predictions import Part, Run, check_split, held_out, mask_key_of
from training.dropout_parameters import learned_of
from training.objective import Objective
from training.optimizer import DROPOUT
from training.state import State

FIT_TOLERANCE = 1e-3  # Of a rate factor, relative to the largest that is allowed.


def parse_plans(texts: list[str]) -> list[Plan]:
    """Return the plans that the values of a flag say.

    Raises:
        ValueError: one is not a plan.
    """
    plans = []
    for text in texts:
        try:
            plans.append(parse(text))
        except ValueError as error:
            raise ValueError(f"--dropout={text}: {error}") from None
    return plans


def with_plan(run: Run, plan: Plan) -> Run:
    """Return a run whose network drops as another plan says.

    A learned rate stays what the run has learned where the plan has the same variant at
    the site; elsewhere a learned variant acts at the rate that the plan writes.

    Raises:
        ValueError: the plan and the network do not fit together.
    """
    experiment = run.experiment
    try:
        rows = resolve(plan, tuple(site.name for site in experiment.network.sites))
    except ValueError as error:
        raise ValueError(f"--dropout={plan}: {error}") from None
    config = replace(experiment.config, dropout=str(plan), rate_factor=1.0)
    before = {(row.site, row.variant) for row in experiment.rows}
    kept = {row.site for row in rows if (row.site, row.variant) in before}
    learned = {s: p for s, p in learned_of(run.state.params).items() if s in kept}
    params = {**run.state.params, DROPOUT: learned}
    state = run.state._replace(params=params)
    return Run(_with_rows(run, rows).experiment._replace(config=config), state)


def with_rate_factor(run: Run, factor: float) -> Run:
    """Return a run with every rate of its plan multiplied by a factor."""
    config = run.experiment.config
    scaled = _with_rows(run, scale_rates(run.experiment.rows, factor)).experiment
    config = replace(config, rate_factor=config.rate_factor * factor)
    return Run(scaled._replace(config=config), run.state)


def evaluate_plans(
    run: Run, plans: list[Plan], request: EvaluationRequest, fit_rate: bool
) -> Iterator[tuple[str, InferenceResult]]:
    """Yield the results of every plan and inference rule, each with a name.

    Plan 1 is the run's own, and the others follow: `1 scaling`, `2 mc`. Inference rules
    that do not fit a plan are left out. With `fit_rate` there is `2 mc, fitted`, too,
    with the factor on all rates that minimises the negative log-likelihood of the
    validation split among the scores, where one is better than 1.
    """
    test = held_out(run, "test", request.examples)
    for number, other in enumerate(by_plan(run, plans), 1):
        for inference in rules_that_fit(other, request.inferences):
            name = f"{number} {inference}"
            yield name, evaluate_inference_rule(other, inference, test, request)
            factor = 1.0
            if fit_rate:
                factor = fit_rate_factor(
                    other, inference, request.samples, request.examples
                )
            if factor != 1:
                fitted = with_rate_factor(other, factor)
                found = evaluate_inference_rule(fitted, inference, test, request)
                scores = {"rate factor": factor, **found.scores}
                yield f"{name}, fitted", found._replace(scores=scores)


def by_plan(run: Run, plans: list[Plan]) -> list[Run]:
    """Return a run under its own plan, and under each of the others."""
    return [run, *(with_plan(run, plan) for plan in plans)]


def rules_that_fit(run: Run, inferences: list[str]) -> list[str]:
    """Return those of the inference rules for which a run's plan has sites.

    Raises:
        ValueError: a rule does not exist.
    """
    rows = run.experiment.rows
    return [inference for inference in inferences if not missing_for(inference, rows)]


def fit_rate_factor(run: Run, inference: str, samples: int, examples: int) -> float:
    """Return the factor on all rates that minimises the loss on the validation split.

    The loss is the negative log-likelihood of the probabilities averaged over samples,
    whose masks differ in nothing but the rate from one factor to the next. The factor
    is 1 where no other is better.

    Raises:
        ValueError: the run has no validation split.
    """
    check_split(run, "validation")
    held = held_out(run, "validation", examples)
    loss = _loss_of_factor(run, inference, samples, held)
    highest = highest_factor(run.experiment.rows)
    # Weight scaling does not depend on the rate where dropout scales in training.
    if loss(0.0) == loss(highest / 2):
        return 1.0
    found = minimize_scalar(
        loss, bounds=(0.0, highest), options={"xatol": FIT_TOLERANCE * highest}
    )
    return float(found.x) if found.fun < loss(1.0) else 1.0


def highest_factor(rows: tuple[Row, ...]) -> float:
    """Return the largest factor that leaves each rate in its variant's domain."""
    highest = [
        float(VARIANTS[row.variant.name].domain[1:-1].split(", ")[1]) / row.rate
        for row in rows
        if row.rate
    ]
    return float(min(highest, default=1.0))


def make_predict_at_factor(
    objective: Objective, inference: str, samples: int
) -> PredictSamples:
    """Return `make_predict_samples` of ((state, rate factor), key, images, examples).

    The factor is an argument, so that one compilation serves all.
    """

    def predict_samples(
        state_and_factor: tuple[State, Float[Array, ""]],
        key: Key[Array, ""],
        images: Num[Array, "n height width channels"],
        examples: Int[Array, " n"],
    ) -> Float[Array, "samples n classes"]:
        state, factor = state_and_factor
        rates = [row.rate * factor for row in objective.rows]
        at_factor = objective._replace(rows=with_rates(objective.rows, rates))
        predict = make_predict_samples(at_factor, inference, samples)
        return predict(state, key, images, examples)

    return predict_samples


def _loss_of_factor(
    run: Run, inference: str, samples: int, part: Part
) -> Callable[[float], float]:
    function = make_predict_at_factor(run.experiment.objective, inference, samples)
    first = (run.state, jnp.float32(1))
    predict = compile_in_chunks(run.experiment, function, first, f"{inference}, fit")
    key = mask_key_of(run, part)

    def loss(factor: float) -> float:
        state = (run.state, jnp.float32(factor))
        found = predict(state, key, part.images, part.ids)
        return measures.negative_log_likelihood(measures.averaged(found), part.labels)

    return loss


def _with_rows(run: Run, rows: tuple[Row, ...]) -> Run:
    objective = run.experiment.objective._replace(rows=rows)
    return run._replace(
        experiment=run.experiment._replace(rows=rows, objective=objective)
    )
