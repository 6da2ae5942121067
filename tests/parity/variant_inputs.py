"""What our variants and those of other libraries are both given."""

import numpy as np

RATES = (0.1, 0.5, 0.8)
MAP = (256, 6, 5, 8)
ONES = np.ones(MAP, np.float32)
NOISE = np.random.default_rng(0).uniform(2, 3, MAP).astype(np.float32)
PATHS = np.ones((4096, 3, 2), np.float32)
# Each token has its own number, from 1; the first is the class token.
NUMBERS = np.arange(1, 18, dtype=np.float32)
TOKENS = np.array(np.broadcast_to(NUMBERS, (4096, 17))[..., None])
PATCHES = (0.25, 0.5)
ALPHAS = [
    (name, rate) for name in ("alpha_dropout", "feature_alpha_dropout")
    for rate in (0.1, 0.5)
]  # fmt: skip
PAPER = [(14, 3), (14, 7), (9, 5)]  # size, block
# Size, block and nominal rate, and the rate that each of the others realises there.
BLOCKS = {
    (32, 7, 0.5): {"timm": 0.488, "torchvision": 0.374},
    (14, 7, 0.1): {"timm": 0.192, "torchvision": 0.096},
    (14, 7, 0.5): {"timm": 0.673, "torchvision": 0.363},
    (8, 5, 0.3): {"timm": 0.572, "torchvision": 0.251},
    (7, 7, 0.1): {"timm": 0.939, "torchvision": 0.100},
}

# Regions of images: of one channel, erased at a rate. The sides of `erase` in pixels.
PICTURE = (32, 24)
REGION_RATE = 0.6
RECTANGLE = {"rectangle": (11, 6), "stripe": (32, 5)}
CELLS, GRID_RATE = (8, 6), 0.9  # rows and columns of cells of 4 x 4

ENSEMBLE = {"c": 240, "n": 4, "scale": 2.0}  # which keeps 128 channels in each mask
GATE_RATE = 0.3
SLOPES = (0.125, 1 / 3)
POINTS = np.linspace(-3, 3, 13, dtype=np.float32)
MAPS = np.random.default_rng(1).normal(size=(2, 6, 6, 3)).astype(np.float32)


def boxes(erased):
    """Height, width, top and left of the box that is True in each image, or zeros."""
    rows, columns = erased.any(2), erased.any(1)
    assert (erased == rows[:, :, None] & columns[:, None]).all()
    sides = [marks.sum(1) for marks in (rows, columns)]
    starts = [marks.argmax(1) for marks in (rows, columns)]
    for marks, side, start in zip((rows, columns), sides, starts):
        position = np.arange(marks.shape[1]) - start[:, None]
        assert (marks == (position >= 0) & (position < side[:, None])).all()
    return np.stack([*sides, *starts], 1).astype(np.int16)
