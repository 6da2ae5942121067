"""What the tests of evaluation share: a finished run, and programs compiled quickly."""

from functools import partial

import jax
import pytest


@pytest.fixture(scope="module")
def run(finished):
    """The newest state of the finished run."""
    # Imported here, so that the type-checking hook is in place before it.
    from evaluation.predictions import load_runs

    (only,) = load_runs(str(finished[0]))
    return only


@pytest.fixture(autouse=True)
def compiled_quickly(monkeypatch):
    """Compile what predicts without optimisation."""
    from variant_cases import QUICK

    from evaluation import inference

    monkeypatch.setattr(inference, "compiled", partial(jax.jit, compiler_options=QUICK))
