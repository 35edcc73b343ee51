"""Jobs of the benchmark that run in processes of their own, and their answers.

Each runs in a new interpreter, `python -m bench.loops`, with its job on standard input and its answer on
standard output: so no loop uses what another has loaded, and the parent loads neither OpenCV nor a network.
"""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import psutil  # type: ignore[import-untyped]

from pipeline.common.errors import UserError
from pipeline.common.files import processor, python_path
from pipeline.common.model_card import find_model, read_card
from pipeline.config.schema import PipelineSettings
from pipeline.config.stage import cores
from pipeline.supervisor.child_process import LIBRARY_DEFAULTS
from pipeline.supervisor.plan import thread_limits
from stages.capture.spec import CaptureSettings
from stages.classify.spec import ClassifySettings
from stages.detect.spec import DetectSettings

TUTORIAL_PACKAGES: Final = ("tensorflow", "keras")


def keras_model(settings: ClassifySettings) -> Path:
    """Return the .keras file of the emotion model: the one that is set, or the one beside it."""
    return find_model(settings.model).with_suffix(".keras")


def check_tutorial(settings: PipelineSettings) -> None:
    """Raise UserError unless the tutorial's loop can run."""
    for package in TUTORIAL_PACKAGES:
        if find_spec(package) is None:
            raise UserError(
                f"bench: the tutorial's loop needs {package}: pip install -r requirements-train.txt, "
                "or leave that loop out with --without-tutorial"
            )
    path = keras_model(settings.of(ClassifySettings))
    if not path.is_file():
        raise UserError(
            f"bench: the tutorial's loop needs the model as a Keras file, and there is no {path}; "
            "leave that loop out with --without-tutorial"
        )
    read_card(path)


PACKAGES: Final = ("onnxruntime", "tensorflow", "keras", "opencv-python", "numpy", "pyzmq", "av", "msgspec")


def describe() -> dict[str, Any]:
    """Return the machine as a document; `load` is the load average of the last minute."""
    return {
        "cpu": processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "load": round(psutil.getloadavg()[0], 2),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # opencv has several wheels
        return "not installed"


Kind = Literal["probe", "scale", "tutorial", "plain", "bare"]


class Job(msgspec.Struct, frozen=True):
    """What a child is to do."""

    kind: Kind
    source: str
    frames: int
    threads: int  # of OpenCV, the decoder and each network (plain, bare)
    output: str  # results (tutorial, plain) or the scaled clip (scale)
    capture: CaptureSettings
    detect: DetectSettings
    classify: ClassifySettings
    parent_pid: int


class ClipInfo(msgspec.Struct, frozen=True):
    """Answer to `probe` and `scale`: a clip's size, and its frames up to the number asked for."""

    frames: int
    width: int
    height: int


class LoopRun(msgspec.Struct, frozen=True):
    """Answer to `tutorial` and `plain`: from the first frame read to the last record written."""

    frames: int
    faces: int
    seconds: float

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


class BareCost(msgspec.Struct, frozen=True):
    """Answer to `bare`: CPU time a frame of the work alone, with one thread for each library, ms."""

    decode: float
    detect: float
    classify: float
    draw: float


Answer = TypeVar("Answer", ClipInfo, LoopRun, BareCost)


def run_job(
    answer: type[Answer],
    kind: Kind,
    settings: PipelineSettings,
    source: str,
    frames: int,
    *,
    threads: int = 1,
    output: Path | str = "",
) -> Answer:
    """Run a job in a fresh process; the other arguments as in `Job`.

    Raises UserError with the last line that the process wrote if it fails.
    """
    tables = settings.of(CaptureSettings), settings.of(DetectSettings), settings.of(ClassifySettings)
    job = Job(kind, source, frames, threads, str(output), *tables, os.getpid())
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.loops"],  # -P: no module of the folder that this is run from
        env={**_variables(job), "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the child
    )
    try:
        out, err = child.communicate(msgspec.json.encode(job))
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    if child.returncode != 0:
        raise UserError(_reason(job.kind, child.returncode, err.decode(errors="replace")))
    return msgspec.json.decode(out.splitlines()[-1], type=answer)


def _variables(job: Job) -> dict[str, str]:
    """Return the stages' environment for jobs that use their code, the user's for the others."""
    if job.kind not in ("plain", "bare"):
        return dict(os.environ)
    return {**LIBRARY_DEFAULTS, **os.environ, **thread_limits(job.threads)}


def _reason(kind: str, status: int, err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    return (
        last.removeprefix("error: ") if status == 2 else f"bench: {kind} ended with status {status}: {last}"
    )
