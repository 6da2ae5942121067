"""MLflow as a tracker, at MLFLOW_TRACKING_URI or in a database in the workdir."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
from mlflow.entities import (  # pyright: ignore[reportMissingImports]
    Metric,
    Param,
)

from training.record.trackers import PROJECT, Tracker, identity_in

LONGEST_VALUE = 6000  # MLflow refuses longer ones.


@contextlib.contextmanager
def open_mlflow(
    workdir: Path, start: int, settings: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Yield a tracker that logs into one MLflow run, also after the run is resumed."""
    client = MlflowClient(_uri(workdir))
    run = identity_in(
        workdir / "mlflow-id", lambda: _new_run(client, workdir, settings)
    )
    client.update_run(run, status="RUNNING")

    def add_scalars(split: str, values: Mapping[str, float], step: int) -> None:
        now = round(1000 * time.time())
        metrics = [
            Metric(f"{split}/{tag}", value, now, step) for tag, value in values.items()
        ]
        client.log_batch(run, metrics=metrics)

    def add_picture(path: Path, step: int) -> None:
        client.log_artifact(run, str(path))

    try:
        yield Tracker(add_scalars, add_picture)
    finally:
        client.set_terminated(run)


def _uri(workdir: Path) -> str:
    if "MLFLOW_TRACKING_URI" in os.environ:
        return os.environ["MLFLOW_TRACKING_URI"]
    return f"sqlite:///{workdir.resolve() / 'mlflow.db'}"


def _new_run(client: MlflowClient, workdir: Path, settings: Mapping[str, Any]) -> str:
    values = {name: str(value)[:LONGEST_VALUE] for name, value in settings.items()}
    run = client.create_run(_experiment(client, workdir), run_name=workdir.name)
    params = [Param(*item) for item in values.items()]
    client.log_batch(run.info.run_id, params=params)
    return run.info.run_id


def _experiment(client: MlflowClient, workdir: Path) -> str:
    found = client.get_experiment_by_name(PROJECT)
    if found is not None:
        return found.experiment_id
    local = "MLFLOW_TRACKING_URI" not in os.environ
    # Else MLflow would put pictures into the current directory.
    files = str(workdir.resolve() / "mlflow-files") if local else None
    return client.create_experiment(PROJECT, artifact_location=files)
