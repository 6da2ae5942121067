"""Dropout for JAX: pure variants, explicit keys, and plans that say where and how much.

from dropout import bernoulli
y = bernoulli(jax.random.key(0), x, 0.5)

Every variant is here under its name, as its entry of `VARIANTS`: a rate outside its
domain is a ValueError while it is a Python number.
"""

from dropout.depths import Span
from dropout.keys import JaxBits, named_key
from dropout.kinds import identity, kind_of
from dropout.moment import Moment
from dropout.parameters import (
    LearnedRow,
    initial_parameters,
    learned_rates,
    learned_rows,
    penalty,
)
from dropout.plan import Plan, Rule, parse
from dropout.plugins import register_schedule, register_variant
from dropout.recording import Site, record_sites
from dropout.rows import Row, Rows, resolve, rows_at, scale_rates, with_rates
from dropout.schedules import SCHEDULES, Timeline, factor_at
from dropout.sites import Drop, bind
from dropout.variants import VARIANTS, Variant

__version__ = "0.2.0"

bernoulli = VARIANTS["bernoulli"]
gaussian = VARIANTS["gaussian"]
uniform = VARIANTS["uniform"]
alpha = VARIANTS["alpha"]
feature_alpha = VARIANTS["feature_alpha"]
max_dropout = VARIANTS["max_dropout"]
spatial = VARIANTS["spatial"]
weighted_channel = VARIANTS["weighted_channel"]
patch = VARIANTS["patch"]
word = VARIANTS["word"]
nested = VARIANTS["nested"]
dropblock = VARIANTS["dropblock"]
disout = VARIANTS["disout"]
cutout = VARIANTS["cutout"]
random_erasing = VARIANTS["random_erasing"]
erase = VARIANTS["erase"]
grid_mask = VARIANTS["grid_mask"]
hide_and_seek = VARIANTS["hide_and_seek"]
adl = VARIANTS["adl"]
jumpout = VARIANTS["jumpout"]
masksembles = VARIANTS["masksembles"]
max_pool = VARIANTS["max_pool"]
stochastic_pool = VARIANTS["stochastic_pool"]
mixed_pool = VARIANTS["mixed_pool"]
dropconnect = VARIANTS["dropconnect"]
kernel_dropout = VARIANTS["kernel_dropout"]
mixout = VARIANTS["mixout"]
embedding = VARIANTS["embedding"]
targeted = VARIANTS["targeted"]
drop_path = VARIANTS["drop_path"]
layerdrop = VARIANTS["layerdrop"]
shakedrop = VARIANTS["shakedrop"]
shake_shake = VARIANTS["shake_shake"]
drop_activation = VARIANTS["drop_activation"]
rrelu = VARIANTS["rrelu"]
locked = VARIANTS["locked"]
recurrent = VARIANTS["recurrent"]
zoneout = VARIANTS["zoneout"]
attention = VARIANTS["attention"]
dropkey = VARIANTS["dropkey"]
drophead = VARIANTS["drophead"]
concrete = VARIANTS["concrete"]
spatial_concrete = VARIANTS["spatial_concrete"]
l0_gate = VARIANTS["l0_gate"]
variational = VARIANTS["variational"]
sparse_variational = VARIANTS["sparse_variational"]
standout = VARIANTS["standout"]

__all__ = [
    "SCHEDULES",
    "VARIANTS",
    "Drop",
    "JaxBits",
    "LearnedRow",
    "Moment",
    "Plan",
    "Row",
    "Rows",
    "Rule",
    "Site",
    "Span",
    "Timeline",
    "Variant",
    "adl",
    "alpha",
    "attention",
    "bernoulli",
    "bind",
    "concrete",
    "cutout",
    "disout",
    "drop_activation",
    "drop_path",
    "dropblock",
    "dropconnect",
    "drophead",
    "dropkey",
    "embedding",
    "erase",
    "factor_at",
    "feature_alpha",
    "gaussian",
    "grid_mask",
    "hide_and_seek",
    "identity",
    "initial_parameters",
    "jumpout",
    "kernel_dropout",
    "kind_of",
    "l0_gate",
    "layerdrop",
    "learned_rates",
    "learned_rows",
    "locked",
    "masksembles",
    "max_dropout",
    "max_pool",
    "mixed_pool",
    "mixout",
    "named_key",
    "nested",
    "parse",
    "patch",
    "penalty",
    "random_erasing",
    "record_sites",
    "recurrent",
    "register_schedule",
    "register_variant",
    "resolve",
    "rows_at",
    "rrelu",
    "scale_rates",
    "shake_shake",
    "shakedrop",
    "sparse_variational",
    "spatial",
    "spatial_concrete",
    "standout",
    "stochastic_pool",
    "targeted",
    "uniform",
    "variational",
    "weighted_channel",
    "with_rates",
    "word",
    "zoneout",
]
