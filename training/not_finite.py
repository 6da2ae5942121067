"""What happens after a step whose loss or gradient is not finite."""

import math

import numpy as np

from dropout import rows_at
from training.data.batches import batch_ids
from training.experiment import Experiment
from training.record.recorder import Recorder
from training.step import Shown


def check_finite(
    experiment: Experiment,
    recorder: Recorder,
    saved: int | None,
    step: int,
    metrics: Shown,
) -> None:
    """End a run whose step is not finite; for a member, print once that it is frozen.

    Raises:
        FloatingPointError: the step of a run on its own is not finite; the message
            names its rates and examples.
    """
    losses, finite = (np.atleast_1d(metrics[name]) for name in ("loss", "finite"))
    for number in np.flatnonzero(~finite).tolist():
        loss = float(losses[number])
        what = "gradient is not finite" if math.isfinite(loss) else f"loss is {loss}"
        if not experiment.members:
            known = _circumstances(experiment, step)
            raise FloatingPointError(
                f"the {what} at step {step}; {known}; last saved step: {saved}; "
                "--on_nan=skip counts such steps and goes on."
            )
        recorder.tell_frozen(number, step, what)


def _circumstances(experiment: Experiment, step: int) -> str:
    """The rates and the examples of a step, and images that are not finite."""
    rows = rows_at(experiment.rows, step, experiment.timeline)
    sites = ", ".join(f"{row.site} {float(row.rate):.4g}" for row in rows)
    ids, _ = next(batch_ids(experiment, step))
    images = np.asarray(experiment.data.train.fetch(ids)[0])
    holes = ids[~np.isfinite(images.reshape(len(ids), -1)).all(1)].tolist()
    cause = f" (not finite: the images of {holes})" if holes else ""
    return f"rates: {sites or 'none'}; examples: {ids.tolist()}{cause}"
