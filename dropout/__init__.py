"""Dropout for JAX: pure variants, explicit keys, and plans that say where and how much.

from dropout import VARIANTS, bernoulli
y = bernoulli(jax.random.key(0), x, 0.5)
"""

from dropout.keys import JaxBits, named_key
from dropout.kinds import identity, kind_of
from dropout.plan import Plan, Row, Rule, Span, parse, rates_at, resolve
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
    "kind_of",
    "named_key",
    "parse",
    "rates_at",
    "resolve",
]
