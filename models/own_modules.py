"""Modules of a user's own, which flags name: their import and their files."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from dropout.grammar import suggest


def import_own(flag: str, name: str) -> ModuleType:
    """Import a module from the current directory or from where Python looks for them.

    Raises:
        ValueError: there is none of this name.
    """
    _spec(flag, name)
    return importlib.import_module(name)


def file_of(flag: str, name: str) -> Path:
    """Return the file of a module; it is not imported.

    Raises:
        ValueError: there is no module of this name, or it has no file.
    """
    origin = _spec(flag, name).origin
    if origin is None or not Path(origin).is_file():
        raise ValueError(f"{flag}={name}: expected a module that is a file.")
    return Path(origin)


def find(name: str) -> Callable[..., Any]:
    """Return the class or function that `package.module:Name` names.

    Raises:
        ValueError: there is no such module, or nothing of this name in it.
    """
    module, _, attribute = name.partition(":")
    found = vars(import_own("--model", module))
    if attribute not in found or not callable(found[attribute]):
        here = [n for n, item in found.items() if _is_from(item, module)]
        raise ValueError(
            f"--model={name}: {module} has no class or function "
            f"{attribute!r}{suggest(attribute, here)}."
        )
    return found[attribute]


def _spec(flag: str, name: str) -> ModuleSpec:
    # As `python -m` does; scripts themselves look beside their own file.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        found = None
    if found is None:
        raise ValueError(
            f"{flag}={name}: there is no module {name!r}; expected a file in the "
            "current directory or on PYTHONPATH."
        )
    return found


def _is_from(item: Any, module: str) -> bool:
    is_network = inspect.isclass(item) or inspect.isfunction(item)
    return is_network and item.__module__ == module
