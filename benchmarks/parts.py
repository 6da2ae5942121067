"""The parts of `scripts/bench.py` by name, and a function that measures them."""

from collections.abc import Callable, Iterator

from benchmarks.host_time import measure_host_time
from benchmarks.loading import measure_loader
from benchmarks.networks import NETWORKS
from benchmarks.operations import measurable, measure_operations
from benchmarks.request import Request, configuration
from benchmarks.start import measure_start
from benchmarks.tables import Results
from benchmarks.training_steps import (
    measure_populations,
    measure_sites,
    measure_skipping,
    measure_steps,
    measure_telemetry,
)
from benchmarks.variants import measure_variants

PARTS: dict[str, Callable[[Request], Iterator[tuple[str, Results]]]] = {
    "operations": measure_operations,
    "variants": measure_variants,
    "steps": measure_steps,
    "sites": measure_sites,
    "populations": measure_populations,
    "telemetry": measure_telemetry,
    "skipping": measure_skipping,
    "loop": measure_host_time,
    "start": measure_start,
    "loader": measure_loader,
}
WITHOUT_NETWORK = {"operations", "variants", "skipping", "loader"}


def measure_parts(parts: list[str], request: Request) -> Iterator[tuple[str, Results]]:
    """Yield the title and the results of each table of some parts.

    Raises:
        ValueError: a name does not exist. It is raised before anything is measured.
    """
    check(parts, request)
    for part in parts:
        yield from PARTS[part](request)


def check(parts: list[str], request: Request) -> None:
    """Check the names of parts, variants and networks.

    Raises:
        ValueError: a name does not exist; the message names those that do.
    """
    _check_names("parts", parts, PARTS)
    _check_names("variants", request.variants, measurable())
    if "steps" in parts:
        _check_names("models", request.models, NETWORKS)
    for model in () if set(parts) <= WITHOUT_NETWORK else request.models:
        configuration(request, model, batch_size=1, dropout="none")


def _check_names(flag: str, given, allowed) -> None:
    for name in given:
        if name not in allowed:
            expected = ", ".join(allowed)
            raise ValueError(f"--{flag}={name}: expected some of {expected}.")
