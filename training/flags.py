"""The flags of a run: one for each field of `Config`, and those that start processes.

A script defines them at its top and reads them in its main; nothing below sees them.
"""

from dataclasses import Field, fields
from typing import Any

from absl import flags

from training.config import Config
from training.flag_text import NEVER, parse_value, value_text
from training.runtime.processes import Launch

DEFINE = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
}


# Groups of the help, as `Config` names them.
DATA = "data"
GROUP_OF_PROCESSES = "devices"


class Period(flags.ArgumentParser):
    """Parser of a number of steps, or `never`."""

    def __init__(self, name: str):
        self.name = name
        self.syntactic_help = f"a number of steps, or {NEVER}"

    def parse(self, argument: Any) -> int:
        """Return the number of steps."""
        return argument if isinstance(argument, int) else self.convert(argument)

    def convert(self, argument: str) -> int:
        """Return the number of steps that a text says."""
        return int(parse_value(self.name, argument))

    def flag_type(self) -> str:
        """Return what the help calls the type."""
        return f"integer or {NEVER}"


class PeriodText(flags.ArgumentSerializer):
    """Serializer of what `Period` parses."""

    def serialize(self, value: int) -> str:
        """Return the text of a number of steps."""
        return value_text(value)


def define_config_flags() -> None:
    """Define the flags of `train.py`, in groups for the help."""
    for item in fields(Config):
        _define(item)
    flags.DEFINE_string(
        "coordinator",
        "",
        "host:port of the first of several processes, or auto, which reads it from the "
        "cluster's environment (default where SLURM or Open MPI started the processes)",
        module_name=GROUP_OF_PROCESSES,
    )
    flags.DEFINE_integer(
        "processes",
        0,
        "number of processes of the run, with --coordinator=host:port",
        module_name=GROUP_OF_PROCESSES,
    )
    flags.DEFINE_integer(
        "process_id",
        -1,
        "number of this process from 0, with --coordinator=host:port",
        module_name=GROUP_OF_PROCESSES,
    )
    flags.DEFINE_integer(
        "host_timeout",
        100,
        "seconds after which a silent process counts as lost",
        lower_bound=1,
        module_name=GROUP_OF_PROCESSES,
    )


def define_run_flags(*names: str) -> list[flags.FlagHolder]:
    """Define the named flags of `train.py`, with its defaults and its help."""
    of_runs = {item.name: item for item in fields(Config)}
    return [_define(of_runs[name]) for name in names]


def define_moved_flags() -> list[flags.FlagHolder]:
    """Define --data_dir and --cache_dir for scripts that restore a finished run.

    Call it at the top of a script's module; empty values stand for what was recorded.
    """
    moved = {
        "data_dir": "directory with the prepared data now (default: as recorded)",
        "cache_dir": "directory for decoded data (default: the user's cache)",
    }
    return [
        flags.DEFINE_string(name, "", text, module_name=DATA)
        for name, text in moved.items()
    ]


def given_config() -> Config:
    """Return the configuration that the flags give, as they are written."""
    given: dict[str, Any] = {
        item.name: flags.FLAGS[item.name].value for item in fields(Config)
    }
    if flags.FLAGS["steps"].present and not flags.FLAGS["epochs"].present:
        given["epochs"] = 0
    return Config(**given)


def given_launch() -> Launch:
    """Return how the flags say that this process stands among others."""
    names = ("coordinator", "processes", "process_id", "host_timeout")
    values: list[Any] = [flags.FLAGS[name].value for name in names]
    return Launch(*values)


def _define(item: Field) -> flags.FlagHolder:
    group, text = item.metadata["group"], item.metadata["help"]
    if item.metadata["period"]:
        return flags.DEFINE(
            Period(item.name), item.name, item.default, text,
            serializer=PeriodText(), module_name=group,
        )  # fmt: skip
    define = DEFINE[type(item.default)]
    return define(item.name, item.default, text, module_name=group)
