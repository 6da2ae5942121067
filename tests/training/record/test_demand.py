"""What a dry run says of FLOPs and bytes, against counts by hand."""

import re
from dataclasses import replace

import pytest

from training.canonical import canonical
from training.experiment import prepare
from training.record.demand import compiled_cost, demand, example_bytes, forward_flops

LAYERS = ((100, 40), (40, 30), (30, 3))


@pytest.fixture(scope="module")
def dense(small):
    """A perceptron on 10x10 images of three classes."""
    config = replace(small, model="mlp(widths=(40, 30))", dropout="none")
    return prepare(canonical(config))


def test_flops_are_two_for_each_multiplication(dense):
    by_hand = 2 * sum(inputs * outputs for inputs, outputs in LAYERS)
    # Beside those: four for each pixel, to standardise it, biases and ReLUs.
    assert by_hand < forward_flops(dense) < by_hand + 4 * 100 + 2 * 73


def test_lines_say_flops_of_a_step_and_bytes_of_an_example(dense):
    step, rate = demand(dense)
    assert example_bytes(dense) == 10 * 10 + 4  # A byte a pixel, and an int32 label.
    told = float(step.split(" FLOPs")[0])
    assert told == pytest.approx(3 * 24 * forward_flops(dense), rel=0.01)
    assert "of 104 bytes each; they lie on the devices" in rate


@pytest.mark.slow
def test_the_compiled_step_has_its_parameters_in_memory(dense):
    lines = compiled_cost(dense)
    (text,) = re.findall("([0-9.]+) MB  parameters", " ".join(lines))
    weights = sum(inputs * outputs + outputs for inputs, outputs in LAYERS)
    # Adam keeps two more numbers for each; the batch is 24 images of 100 bytes.
    assert 12 * weights / 1e6 < float(text) + 0.05
    assert float(text) < 12 * weights / 1e6 + 0.1
    flops = float(lines[0].split(" FLOPs")[0])
    assert flops > 2 * 24 * forward_flops(dense)
