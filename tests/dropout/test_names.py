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


# Of the reviews of Labach et al. 2019, Li et al. 2022 and Salehin & Kang 2023.
REVIEWED = """
    Dropout DropConnect Standout Fast-Dropout Gaussian-Dropout Variational-Dropout
    Concrete-Dropout Max-Pooling-Dropout Max-Drop SpatialDropout Cutout DropBlock
    Stochastic-Depth Swapout Shakeout Whiteout Curriculum-Dropout Annealed-Dropout
    Targeted-Dropout Ising-Dropout RNNDrop Zoneout Recurrent-Dropout Weight-Drop
    Fraternal-Dropout Monte-Carlo-Dropout Continuous-Dropout Information-Dropout
    Jumpout LocalDrop R-Drop LayerDrop DropHead DropAttention HiddenCut UniDrop
    DropEdge DropNode Adversarial-Dropout AutoDropout Guided-Dropout DropFilter
    Weighted-Channel-Dropout DropMax Excitation-Dropout DropPath Word-Dropout
    Shake-Shake ShakeDrop Drop-Activation Hide-and-Seek GridMask Random-Erasing
    Multi-Sample-Dropout Contextual-Dropout EDropout CamDrop Crossmap-Dropout
    Biased-Dropout DropCluster MaxDropout Mixout Group-wise-Dropout DropKey
"""


@pytest.mark.parametrize("name", REVIEWED.split())
def test_a_name_of_a_review_is_a_variant_or_explained(name):
    plain = name.lower().replace("-", "")
    if plain in {variant.replace("_", "") for variant in VARIANTS}:
        return
    with pytest.raises(ValueError, match="is left out: |is written as a plan such as"):
        parse(f"fc:{name}:0.2")


@pytest.mark.parametrize("name", ["R-Drop", "spatialDropout1D"])
def test_the_error_for_a_published_name_says_what_it_is(name):
    found = {
        "R-Drop": "r_drop is left out: .*: --consistency=rdrop",
        "spatialDropout1D": "plan such as 'tokens:spatial:0.2'",
    }
    with pytest.raises(ValueError, match=found[name]):
        parse(f"fc:{name}:0.5")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("bernouli", "bernoulli"),
        ("Shake-Shake", "shake_shake"),
        ("hide-and-seek", "hide_and_seek"),
        ("droppath", "drop_path"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_variant(name, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        parse(f"fc:{name}:0.5")
