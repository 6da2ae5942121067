"""The picture of a run, drawn by a library that is imported only here."""

from pathlib import Path

from training.experiment import Experiment
from training.record.metrics_log import read_metrics
from training.runtime.processes import by_leader

CURVES = "curves.png"


@by_leader
def plot_run(workdir: Path, experiment: Experiment) -> None:
    """Plot what a run's metrics hold so far into `curves.png` in its workdir."""
    import training.record.drawing  # noqa: F401, I001  Before Matplotlib is imported.
    from training.record.curves import curves_of, plot_curves, title_of
    from training.record.pictures import save_png

    lines = read_metrics(workdir)
    figure = plot_curves(lines, curves_of(experiment, lines), title_of(experiment))
    save_png(figure, workdir / CURVES)
