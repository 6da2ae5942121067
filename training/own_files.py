"""Files of the user's own on which a run depends, and the modules among them."""

import hashlib
from pathlib import Path

from dropout.grammar import parse_call
from models.own import is_own
from models.own_modules import file_of, import_own
from training.record.files import read_summary

MODEL, PLUGINS, INIT = "--model", "--plugins", "--init"


def load_plugins(plugins: str) -> None:
    """Import the modules that `--plugins` names, which register what they bring.

    Raises:
        ValueError: there is no such module, or a name that it registers is taken.
    """
    for name in plugin_names(plugins):
        import_own(PLUGINS, name)


def plugin_names(plugins: str) -> list[str]:
    """Return the names of modules in a text with commas between them."""
    return [name.strip() for name in plugins.split(",") if name.strip()]


def file_digests(model: str, plugins: str, init: str) -> dict[str, str]:
    """Return a digest of each file, by the text that a flag has for it.

    A module counts with its own file, not with what it imports.

    Raises:
        ValueError: a file that does not exist.
    """
    call = parse_call(model)
    module = call.name.partition(":")[0]
    files = {module: file_of(MODEL, module)} if is_own(call) else {}
    files |= {name: file_of(PLUGINS, name) for name in plugin_names(plugins)}
    found = {name: _digest(path) for name, path in files.items()}
    return {**found, init: _digest_of_weights(init)} if init else found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_weights(init: str) -> str:
    path = Path(init)
    if path.is_file():
        return _digest(path)
    if not (path / "summary.json").is_file():
        raise ValueError(
            f"{INIT}={init}: expected a file .safetensors or .npz, or the workdir of a "
            "finished run."
        )
    summary = read_summary(path)
    if "params_digest" not in summary:
        raise ValueError(
            f"{INIT}={init}: expected the workdir of a run of one seed, not of a "
            "population."
        )
    return summary["params_digest"]
