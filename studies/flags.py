"""The flags of a study, in addition to the flags of train.py, and their values."""

import shlex
import sys
from dataclasses import replace

from absl import flags

from studies.arms import check_printable
from studies.comparison import MARGIN
from studies.engines import ENGINES
from studies.study import StudyRequest
from training.canonical import canonical
from training.flags import given_config, given_launch
from training.members import parse_seeds
from training.runtime.compilation import set_up

STUDY = "study"  # The group of the help.


def define_study_flags(seeds: str) -> None:
    """Define the flags of a study; `seeds` is the default of --seeds.

    Call it at the top of a script's module, after `define_config_flags`.
    """
    flags.FLAGS.set_default("seeds", seeds)
    flags.DEFINE_float(
        "target", 0.0, "accuracy in [0, 1] to which the time is measured (0: none)",
        0.0, 1.0,
        module_name=STUDY,
    )  # fmt: skip
    flags.DEFINE_float(
        "margin", MARGIN, "largest difference in test error that counts as equal, in "
        "points (100 times a fraction)", module_name=STUDY,
    )  # fmt: skip
    flags.DEFINE_string(
        "question", "", "question that the study asks, printed in its report",
        module_name=STUDY,
    )  # fmt: skip
    flags.DEFINE_integer(
        "members",
        64,
        "largest number of runs that one program trains",
        1,
        module_name=STUDY,
    )
    flags.DEFINE_enum(
        "engine", "local", list(ENGINES), "engine that runs the programs",
        module_name=STUDY,
    )  # fmt: skip
    flags.DEFINE_string(
        "address", "auto", "address of the Ray cluster, host:port", module_name=STUDY
    )


def given_study_request() -> StudyRequest:
    """Set JAX up and return the study that the flags describe; called in a main.

    The configuration keeps the mesh as it is written: each population resolves it for
    the number of its own members.
    """
    given, values = given_config(), flags.FLAGS
    check_printable("--question", values.question)
    base = set_up(canonical(given), given_launch())
    return StudyRequest(
        base=replace(base, seeds="", mesh=given.mesh, workdir=""),
        question=values.question,
        seeds=parse_seeds(given.seeds),
        workdir=given.workdir,
        target=values.target,
        margin=_positive(values.margin),
        members=values.members,
        engine=values.engine,
        address=values.address,
        command=shlex.join(["python", *sys.argv]),
    )


def _positive(margin: float) -> float:
    if not 0 < margin < 100:
        raise ValueError(f"--margin={margin}: expected a number of points in (0, 100).")
    return margin
