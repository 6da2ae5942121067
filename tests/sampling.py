"""The fast suite takes some cases of a law; the slow one takes all others."""

import pytest


def sampled(cases, fast):
    """The cases as parameters, of which all but those named in `fast` are slow."""
    cases = list(cases)
    assert set(fast) <= set(map(str, cases)), "a name of the sample is no case"
    return [
        case if str(case) in fast else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]
