"""Initial weights: `--init=FILE.safetensors`, FILE.npz or the workdir of a run."""

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from dropout.grammar import Call
from models.pretrained import LIBRARIES, Arrays, translated
from training.network import BESIDE, Initial, Network, Tree
from training.record.digests import digest
from training.record.files import Damaged, read_summary
from training.runtime.checkpoints import saved_arrays


def read_weights(init: str) -> Arrays:
    """Return the arrays of a file by their names, or those of a run by their paths.

    Raises:
        ValueError: a file of another form, or one that is damaged.
    """
    path = Path(init)
    if path.is_dir():
        return weights_of_run(path)
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise ValueError(
            f"--init={init}: expected {' or '.join(readers)} (in PyTorch, "
            "safetensors.torch.save_file(model.state_dict(), FILE))."
        )
    return readers[path.suffix](path)


def weights_of_run(workdir: Path) -> Arrays:
    """Return the parameters and statistics at the last step of a finished run.

    Raises:
        Damaged: they are not those that its summary is about.
    """
    summary = read_summary(workdir)
    params, stats = saved_arrays(workdir, summary["steps"])
    if digest(params) != summary["params_digest"]:
        raise Damaged(
            f"--init={workdir}: the checkpoint of step {summary['steps']} is not that "
            "of its summary; expected a run that is whole."
        )
    own = {name: params[name] for name in params if name not in BESIDE}
    return {**flat(own), **flat(stats)}


def with_weights(
    network: Network, call: Call, classes: int, init: str, arrays: Arrays
) -> Network:
    """Return the network with `initial` arrays from elsewhere.

    A layer whose arrays differ in their last axis alone, which is the number of classes
    here, is a classifier and keeps its random values.

    Raises:
        ValueError: an array that is missing, left over or of another shape.
    """
    own = {**flat(network.params), **flat(network.stats)}
    given = _by_our_paths(call, own, init, arrays)
    _check_names(init, own, given)
    new = [path for path in own if _is_classifier(own[path], given[path], classes)]
    for path in own:
        if path not in new and own[path].shape != given[path].shape:
            raise ValueError(
                f"--init={init}: {path} is of shape {given[path].shape} there, and of "
                f"{own[path].shape} in --model={call}."
            )
    origin = f"initial weights: {len(own) - len(new)} arrays of {init}"
    if new:
        count = given[new[0]].shape[-1]
        names = ", ".join(dict.fromkeys(path.rpartition("/")[0] for path in new))
        origin += f"; new classifier {names}: {classes} classes here, {count} there"
    return network._replace(initial=_initial(network, given, new), origin=origin)


def _initial(network: Network, given: Arrays, new: list[str]) -> Initial:
    """What a run begins with: the given arrays, and random ones where they are new."""

    def initial(key: Key[Array, ""]) -> tuple[Tree, Tree]:
        arrays = dict(given)
        if new:
            params, stats = network.initial(key)
            fresh = {**flat(params), **flat(stats)}
            arrays |= {path: fresh[path] for path in new}
        return _filled(network.params, arrays), _filled(network.stats, arrays)

    return initial


def flat(tree: Tree, above: str = "") -> dict[str, Any]:
    """Return arrays, or their shapes, by their paths, `block1/conv2/kernel`."""
    found = {}
    for name, item in tree.items():
        path = f"{above}{name}"
        found |= flat(item, f"{path}/") if isinstance(item, dict) else {path: item}
    return found


def _filled(tree: Tree, arrays: Arrays, above: str = "") -> Tree:
    """A tree like another one, with arrays by their paths.

    They are copied: a step reuses their memory, and an experiment can start often.
    """
    return {
        name: _filled(item, arrays, f"{above}{name}/")
        if isinstance(item, dict)
        else jnp.array(arrays[f"{above}{name}"], item.dtype)
        for name, item in tree.items()
    }


def _by_our_paths(call: Call, own: Tree, init: str, arrays: Arrays) -> Arrays:
    if own.keys() & arrays.keys():
        return arrays
    if call.name not in LIBRARIES:
        raise ValueError(
            f"--init={init}: its names, {_some(arrays)}, are not those of "
            f"--model={call}, {_some(own)}; names of torchvision or timm are known for "
            f"{', '.join(LIBRARIES)}."
        )
    return translated(call.name, own, arrays)


def _check_names(init: str, own: Tree, given: Arrays) -> None:
    missing = [path for path in own if path not in given]
    if missing:
        raise ValueError(f"--init={init} has no array for {_some(missing)}.")
    unused = [name for name in given if name not in own]
    if unused:
        raise ValueError(f"--init={init}: the network has no array {_some(unused)}.")


def _is_classifier(
    own: Array | jax.ShapeDtypeStruct, given: Array | np.ndarray, classes: int
) -> bool:
    same = own.shape[:-1] == given.shape[:-1] and own.ndim == given.ndim
    return same and own.shape != given.shape and own.shape[-1] == classes


def _some(names: Collection[str]) -> str:
    first, count = ", ".join(list(names)[:2]), len(names) - 2
    return f"{first} and {count} more" if count > 0 else first


def _read_npz(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"--init={path} is damaged ({error}).") from None


def _read_safetensors(path: Path) -> Arrays:
    try:
        import safetensors.numpy as reader
    except ImportError:
        raise ValueError(
            f"--init={path}: reading it needs safetensors: pip install safetensors."
        ) from None
    # Its own error is of no type that is exported.
    try:
        return reader.load_file(path)
    except Exception as error:
        raise ValueError(f"--init={path} is damaged ({error}).") from None
