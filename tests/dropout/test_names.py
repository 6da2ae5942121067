"""Published names: each suggests a plan that fits a network, or says what it needs."""

import pytest
from model_cases import site_names

from dropout import VARIANTS, parse, resolve
from dropout.names import LEFT_OUT, PLANS

NETWORKS = (
    "cnn(widths=(2, 3), dense=4)",
    "vit(patch=7, width=8, depth=2, heads=2)",
    "lstm(units=4)",
    "resnet(depth=8)",
)


def test_names_are_of_no_variant_and_in_one_table():
    assert not set(PLANS) & set(VARIANTS) and not set(LEFT_OUT) & set(VARIANTS)
    assert not set(PLANS) & set(LEFT_OUT)


def fits(plan, sites):
    try:
        return len(resolve(plan, sites)) > 0
    except ValueError:
        return False


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_of_a_name_fits_a_network(name):
    plan = parse(PLANS[name])
    assert str(plan) == PLANS[name]
    assert any(fits(plan, site_names(network)) for network in NETWORKS)


@pytest.mark.parametrize("name", ["Swapout", "spatialDropout1D"])
def test_the_error_for_a_published_name_says_what_it_is(name):
    found = {
        "Swapout": "swapout is left out: its mask on the shortcut has no site",
        "spatialDropout1D": "plan such as 'tokens:spatial:0.2'",
    }
    with pytest.raises(ValueError, match=found[name]):
        parse(f"fc:{name}:0.5")


def test_an_unknown_name_suggests_the_nearest_variant():
    with pytest.raises(ValueError, match="did you mean 'bernoulli'"):
        parse("fc:bernouli:0.5")
