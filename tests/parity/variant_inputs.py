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
