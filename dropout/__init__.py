"""Dropout for JAX: pure variants, explicit keys, and plans that say where and how much.

from dropout import VARIANTS, bernoulli
y = bernoulli(jax.random.key(0), x, 0.5)
"""

from dropout.keys import JaxBits, named_key
from dropout.kinds import identity, kind_of
from dropout.parameters import (
    Place,
    initial_parameters,
    learned_places,
    learned_rates,
    penalty,
)
from dropout.plan import Plan, Row, Rule, Span, parse, rates_at, resolve, scale_rates
from dropout.schedules import SCHEDULES, Timeline, factor_at
from dropout.sites import Drop, Moment, bind
from dropout.variants import VARIANTS, Variant
from dropout.variants.elementwise import bernoulli

__all__ = [
    "SCHEDULES",
    "VARIANTS",
    "Drop",
    "JaxBits",
    "Moment",
    "Place",
    "Plan",
    "Row",
    "Rule",
    "Span",
    "Timeline",
    "Variant",
    "bernoulli",
    "bind",
    "factor_at",
    "identity",
    "initial_parameters",
    "kind_of",
    "learned_places",
    "learned_rates",
    "named_key",
    "parse",
    "penalty",
    "rates_at",
    "resolve",
    "scale_rates",
]
