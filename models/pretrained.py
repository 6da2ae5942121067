"""Names and layouts that other libraries give to the parameters of our networks.

torchvision's residual networks are `resnet_imagenet`. timm's vision transformers are
`vit`, `vit_tiny` and `vit_small` with `class_token=True`, or without it if they have
`class_token=False, global_pool='avg', fc_norm=False`. Their GELU is exact (`gelu='erf'`
here).
"""

import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from jaxtyping import Array

Arrays = Mapping[str, Array | np.ndarray]

LEAVES = {
    "kernel": "weight", "scale": "weight", "bias": "bias",
    "mean": "running_mean", "var": "running_var",
}  # fmt: skip
# Patterns of our layers, and what they are called there.
RESNET = (
    (r"out", r"fc"),
    (r"(.*)conv(\d)/norm", r"\1bn\2"),
    (r"(.*)/shortcut/norm", r"\1/downsample/1"),
    (r"(.*)/shortcut", r"\1/downsample/0"),
)
TOKENS = {"positions": "pos_embed", "class_token": "cls_token"}
VIT = (
    (r"out", r"head"),
    (r"patches", r"patch_embed/proj"),
    (r"(.*)/attention/qkv", r"\1/attn/qkv"),
    (r"(.*)/attention/out", r"\1/attn/proj"),
    (r"(.*)/mlp/hidden", r"\1/mlp/fc1"),
    (r"(.*)/mlp/out", r"\1/mlp/fc2"),
)


def torchvision_resnet(path: str, names: Iterable[str]) -> str:
    """Return what torchvision calls an array of ours, among all names of its file."""
    found = {re.match(r"layer(\d+)\.(\d+)\.", name) for name in names}
    blocks = sorted({(int(m[1]), int(m[2])) for m in found if m})
    stages = {f"block{n}": f"layer{s}/{i}" for n, (s, i) in enumerate(blocks, 1)}
    first, slash, rest = path.partition("/")
    path = stages[first] + slash + rest if first in stages else path
    return _renamed(path, RESNET)


def timm_vit(path: str, names: Iterable[str]) -> str:
    """Return what timm calls an array of ours."""
    if path in TOKENS:
        return TOKENS[path]
    first, slash, rest = path.partition("/")
    if first.startswith("block"):
        first = f"blocks/{int(first.removeprefix('block')) - 1}"
    return _renamed(first + slash + rest, VIT)


LIBRARIES: dict[str, Callable[[str, Iterable[str]], str]] = {
    "resnet_imagenet": torchvision_resnet,
    "vit": timm_vit,
    "vit_small": timm_vit,
    "vit_tiny": timm_vit,
}
# The counters of batch norms, which ours do not have.
IGNORED = "num_batches_tracked"


def translated(model: str, paths: Iterable[str], arrays: Arrays) -> dict:
    """Return a library's arrays of a network under our paths and in our layout.

    Paths for which the library has no array are left out. An array that no path reads
    keeps its name.

    Args:
        model: the name of the network in `LIBRARIES`.
        paths: the paths of our arrays.
        arrays: the library's arrays by their names.
    """
    names = {path: LIBRARIES[model](path, arrays) for path in paths}
    found = {p: _in_our_layout(p, arrays[n]) for p, n in names.items() if n in arrays}
    used = set(names.values())
    rest = {n: a for n, a in arrays.items() if n not in used and IGNORED not in n}
    return {**rest, **found}


def _renamed(path: str, patterns: tuple[tuple[str, str], ...]) -> str:
    layer, _, leaf = path.rpartition("/")
    for ours, theirs in patterns:
        match = re.fullmatch(ours, layer)
        if match:
            layer = match.expand(theirs)
            break
    return f"{layer}/{LEAVES[leaf]}".replace("/", ".")


def _in_our_layout(path: str, array: Array | np.ndarray) -> np.ndarray:
    """Inputs before outputs, as ours are; of patches each pixel is an input."""
    array = np.asarray(array)
    if not path.endswith("/kernel"):
        return array
    axes = (*range(2, array.ndim), 1, 0)
    kernel = np.transpose(array, axes)
    return kernel.reshape(-1, array.shape[0]) if path == "patches/kernel" else kernel
