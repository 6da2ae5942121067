"""What the fixed masks, gates, slopes and mixed pools of other libraries are."""

from itertools import combinations
from unittest import mock

import numpy as np

from parity.peers import peer
from parity.variant_inputs import ENSEMBLE, GATE_RATE, MAPS, POINTS, SLOPES

torch = peer("torch")
timm_layers = peer("timm.layers")
hard_concrete = peer("l0.distributions")
ensembles = peer("torch_uncertainty.layers.masksembles")


def masksembles():
    """How many channels each mask keeps, and how many each pair of masks shares."""
    generator = np.random.default_rng(0)
    with mock.patch("numpy.random.default_rng", lambda: generator):
        sets = np.stack(
            [ensembles.generation_wrapper(**ENSEMBLE).astype(bool) for _ in range(64)]
        )
    pairs = [sets[:, a] & sets[:, b] for a, b in combinations(range(sets.shape[1]), 2)]
    return {"kept": sets.sum(-1), "shared": np.stack(pairs, 1).sum(-1)}


def l0_gate():
    """Gates at a log alpha with P(z = 0) = `GATE_RATE`, and how many are open."""
    torch.manual_seed(0)
    gate = hard_concrete.HardConcrete(6144, temperature=2 / 3)
    log_alpha = 2 / 3 * np.log(0.1 / 1.1) - np.log(GATE_RATE / (1 - GATE_RATE))
    gate.qz_logits.data.fill_(log_alpha)
    return {
        "gates": gate().detach().numpy(),
        "open": gate.get_penalty().detach().numpy() / 6144,
    }


def rrelu():
    """Slopes in training, and the function at test."""
    torch.manual_seed(0)
    function = torch.nn.RReLU(*SLOPES)
    slopes = -function(-torch.ones(6144)).numpy()
    return {"slopes": slopes, "at test": function.eval()(torch.tensor(POINTS)).numpy()}


def drop_activation(rate=0.05):
    """A leaky rectifier, which is the mean."""
    function = torch.nn.LeakyReLU(rate)
    return {"at test": function(torch.tensor(POINTS)).numpy()}


def mixed_pool():
    """The mean of average and maximum pooling, here of windows of 2 x 3."""
    maps = torch.tensor(np.moveaxis(MAPS, -1, 1))
    pooled = timm_layers.adaptive_avgmax_pool2d(maps, (3, 2)).numpy()
    return {"at test": np.moveaxis(pooled, 1, -1)}


RESULTS = {
    function.__name__: function
    for function in (masksembles, l0_gate, rrelu, drop_activation, mixed_pool)
}


def results(case):
    """What other libraries compute in one of the cases of `RESULTS`."""
    return RESULTS[case]()
