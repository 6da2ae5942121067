"""The fast suite takes some cases of a law; slower ones take all others."""

import pytest


def sampled(cases, fast, mark=pytest.mark.slow):
    """The cases as parameters, of which all but those named in `fast` have a mark."""
    cases = list(cases)
    assert set(fast) <= set(map(str, cases)), "a name of the sample is no case"
    return [
        case if str(case) in fast else pytest.param(case, marks=mark) for case in cases
    ]
