"""Mutations are of code that runs, one at a time; a seed fixes which are chosen."""

import ast
from pathlib import Path

from mutation import __main__ as mutants
from mutation.mutations import mutated, mutations_of

SOURCE = '''\
def scaled(x: "n 2", rate: float = 0.5) -> int:
    """Doc 1 + 1."""
    if not x >= rate and x != 3:
        raise ValueError(f"{x + 1}", 7)
    é, y = "é", x[1:] + 1
    return -y if é is None else True
'''


def test_all_that_runs_is_changed_and_nothing_else():
    found = [(each.line, each.text) for each in mutations_of(SOURCE)]
    assert sorted(found) == sorted([
        (1, "(1.0)"),
        (3, "(not x >= rate or x != 3)"),
        (3, "(x >= rate)"),
        (3, "(x > rate)"),
        (3, "(x == 3)"),
        (3, "(4)"),
        (5, "(x[1:] - 1)"),
        (5, "(2)"),
        (5, "(2)"),
        (6, "(True if é is None else -y)"),
        (6, "(y)"),
        (6, "(é is not None)"),
        (6, "(False)"),
    ])  # fmt: skip


def test_a_mutant_is_the_source_with_one_change():
    whole = ast.unparse(ast.parse(SOURCE))
    for each in mutations_of(SOURCE):
        changed = ast.unparse(ast.parse(mutated(SOURCE, each)))
        lines = zip(whole.splitlines(), changed.splitlines(), strict=True)
        assert sum(before != after for before, after in lines) == 1


def test_a_sample_is_fixed_by_its_seed_and_has_tests():
    sample = mutants.sample
    first = sample(50, 0)
    assert first == sample(50, 0) != sample(50, 1)
    assert len(set(first)) == 50
    assert all(
        mutants.tests_of(each.path) and mutants.described(each) for each in first
    )
    bits = mutants.tests_of(mutants.ROOT / "dropout" / "bits.py")
    assert str(Path("tests/dropout/test_bits.py")) in bits
