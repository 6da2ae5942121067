"""The text of flags: a configuration written as a flagfile, and read back."""

from typing import Any

from training.config import FIELDS, Config
from training.options import NEVER_STEPS

NEVER = "never"
TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")  # as absl reads them
COMMENTS = ("#", "//")  # as in absl's flagfiles
# Each machine has its own: a record would carry one machine's directory to another.
NOT_RECORDED = ("cache_dir",)


def flag_lines(config: Config) -> str:
    """Return the configuration as an absl flagfile, without this machine's cache."""
    return "".join(f"--{n}={text}\n" for n, text in recorded_values(config).items())


def recorded_values(config: Config) -> dict[str, str]:
    """Return the text of every flag that a record holds, by name."""
    texts = _texts(config)
    return {name: texts[name] for name in texts if name not in NOT_RECORDED}


def parse_flag_lines(text: str) -> Config:
    """Return the configuration that `flag_lines` wrote.

    The cache directory in a record of an earlier version is ignored, and so are blank
    lines and comments.

    Raises:
        ValueError: a line that is no flag of this version.
    """
    values = {}
    # Not `splitlines`, which also splits at characters that a value may hold.
    for line in map(str.strip, text.split("\n")):
        if line and not line.startswith(COMMENTS):
            name, _, value = line.removeprefix("--").partition("=")
            values[name] = parse_value(name, value)
    return Config(**{n: v for n, v in values.items() if n not in NOT_RECORDED})


def parse_value(name: str, text: str) -> Any:
    """Return the value of a flag from its text, as absl reads it.

    Raises:
        ValueError: a flag that does not exist, or text that is not of its type.
    """
    if name not in FIELDS:
        raise ValueError(f"this version has no flag --{name}.")
    item = FIELDS[name]
    kind = type(item.default)
    if item.metadata["period"] and text == NEVER:
        return NEVER_STEPS
    if kind is bool and text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    try:
        if kind is not bool:
            return kind(text)
    except ValueError:
        pass
    expected = "true or false" if kind is bool else kind.__name__
    if item.metadata["period"]:
        expected += f" or {NEVER}"
    raise ValueError(f"--{name}={text}: expected {expected}.")


def value_text(value: int) -> str:
    """Return the text of a number of steps that `parse_value` reads."""
    return NEVER if value == NEVER_STEPS else str(value)


def differences(stored: Config, given: Config) -> list[str]:
    """Return the flags that make a run and differ in two configurations."""
    old, new = _texts(stored), _texts(given)
    return [
        f"--{name} is {new[name]!r}, was {old[name]!r}"
        for name, item in FIELDS.items()
        if not item.metadata["resumable"] and old[name] != new[name]
    ]


def _texts(config: Config) -> dict[str, str]:
    values = {name: getattr(config, name) for name in FIELDS}
    return {
        name: value_text(value) if FIELDS[name].metadata["period"] else str(value)
        for name, value in values.items()
    }
