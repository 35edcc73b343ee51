"""What the benchmark asks of a process of its own, and what that answers.

The parent loads neither OpenCV nor a network, and no loop inherits what another has warmed: each runs in a
fresh interpreter, `python -m bench.loops`, with its job on standard input and its answer on standard output.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from pipeline.errors import UserError
from pipeline.plan import thread_limits
from pipeline.process import LIBRARY_DEFAULTS
from pipeline.settings import PipelineSettings

ROOT: Final = Path(__file__).resolve().parent.parent

Kind = Literal["probe", "scale", "tutorial", "plain", "bare"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do. Not on its command line, as for the stages."""

    kind: Kind
    source: str
    frames: int
    settings: PipelineSettings
    threads: int = 1  # of OpenCV, the decoder and each network (plain, bare)
    output: str = ""  # results (tutorial, plain) or the scaled clip (scale)
    parent_pid: int = 0


class ClipInfo(msgspec.Struct, frozen=True):
    """Answer to `probe` and `scale`: a clip, of which no more than the frames asked for are counted."""

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
    """Answer to `bare`: CPU time a frame of the work itself, each library held to one thread, ms."""

    decode: float
    detect: float
    classify: float
    draw: float

    @property
    def total(self) -> float:
        return self.decode + self.detect + self.classify + self.draw


Answer = TypeVar("Answer", ClipInfo, LoopRun, BareCost)


def run_job(job: Job, answer: type[Answer]) -> Answer:
    """Run the job in a fresh process. Raises UserError with what the process said if it fails."""
    job = msgspec.structs.replace(job, parent_pid=os.getpid())
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.loops"],  # -P: no module of the folder that this is run from
        env={**_variables(job), "PYTHONPATH": _python_path()},
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
    """The environment of the stages, for what is made of their parts; the user's, for the tutorial's loop."""
    if job.kind not in ("plain", "bare"):
        return dict(os.environ)
    return {**LIBRARY_DEFAULTS, **os.environ, **thread_limits(job.threads)}


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), inherited] if inherited else [str(ROOT)])


def _reason(kind: str, status: int, err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    return (
        last.removeprefix("error: ") if status == 2 else f"bench: {kind} ended with status {status}: {last}"
    )
