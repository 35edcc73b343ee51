"""What a stage declares about itself. STAGES in stages/stage.py lists all stages.

A declaration imports nothing heavy, since the supervisor and the command line read it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, NamedTuple

import msgspec

from pipeline.config.schema import PipelineSettings, S
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import DType


class ArraySpec(msgspec.Struct, frozen=True):
    """An array that a step gives, with a row for each item of a frame, such as a face."""

    name: str
    dtype: DType
    shape: tuple[int, ...]  # of one item
    shown: bool = True  # in the frame's record; False: for later steps only


class Step(msgspec.Struct, frozen=True):
    """What the broker needs to know about a stage's work; sent to it in its options.

    The first step of a run takes frames and finds items in them; every other one takes the rows of an array
    that a step before it gives.
    """

    role: str  # of the processes that do it
    gives: list[ArraySpec]
    takes: str = ""  # the array whose rows it works on; "": frames
    takes_shape: tuple[int, ...] | None = None  # of one row, as the step that gives it makes it; None: any
    check: str = ""  # "module:function", which returns what is wrong with the arrays of a result
    max_batch: int = 1  # items in one piece of work
    max_delay_ms: float = 0.0  # how long an item may wait for others in its batch
    recall: str = ""  # of frames: the array of the last result near which the next frame is searched
    recall_ms: float = 0.0  # live sources: how often a whole frame is searched


def agreed_steps(steps: Sequence[Step]) -> list[Step]:
    """Return `steps` with each array in the shape that the step which takes it requires."""
    shapes = {step.takes: step.takes_shape for step in steps if step.takes_shape is not None}
    replace = msgspec.structs.replace
    return [
        replace(step, gives=[replace(one, shape=shapes.get(one.name, one.shape)) for one in step.gives])
        for step in steps
    ]


def check_steps(steps: Sequence[Step]) -> None:
    """Raise ValueError unless the first step takes frames, and each other one what an earlier step gives."""
    given: set[str] = set()
    for number, step in enumerate(steps):
        if step.takes not in (given if number else {""}):
            expected = ", ".join(sorted(given)) if number else "frames"
            raise ValueError(f"step {step.role} takes {step.takes or 'frames'}; expected {expected}")
        again = given & {array.name for array in step.gives}
        if again or not step.gives:
            raise ValueError(
                f"step {step.role} gives {', '.join(again) or 'nothing'}; expected arrays of its own"
            )
        given |= {array.name for array in step.gives}


class ProcessPlan(NamedTuple):
    """One process of a run; its module decodes `options` from its assignment."""

    role: str
    module: str
    name: str
    options: msgspec.Struct
    threads: int = 1
    source: str = ""  # of a capture
    stdout: bool = False  # whether it writes to the command line's standard output
    stdin: bool = False  # whether it reads the command line's standard input


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a stage needs to plan its processes."""

    settings: PipelineSettings
    sources: Sequence[SourceSpec]
    steps: Sequence[Step]
    captures_here: bool  # whether all sources are captured on this machine, so that all are known
    directory: Path  # of the run, for what a process leaves for its replacement


class CheckLine(NamedTuple):
    """One line of `run.py check`; with a missing part the pipeline does not run."""

    state: Literal["ok", "note", "missing"]
    part: str
    detail: str


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def output_line(name: str, text: str, *, folder: bool = False) -> CheckLine:
    """Return whether a file or folder can be written, by its permissions, without touching it."""
    path = Path(text)
    if folder and path.exists() and not path.is_dir():
        return CheckLine("missing", name, f"{path} is a file; expected a folder, or a file .mkv or .mp4")
    if path.is_dir() and not folder:
        return CheckLine("missing", name, f"{path} is a directory; expected a file")
    if not path.absolute().parent.is_dir():
        return CheckLine("missing", name, f"{path}: no directory {path.absolute().parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        return CheckLine("missing", name, f"{path} can't be written: no permission")
    return CheckLine("ok", name, f"{text} can be written")


@dataclass(frozen=True)
class StageSpec(Generic[S]):
    """A stage, or the broker. Its module has the function `run(assignment, stop) -> exit status`.

    `resolve` returns the settings with what they leave open, and log lines; it raises UserError for what is
    not available. `check` returns the same as lines of `run.py check`, without raising.
    """

    role: str
    module: str
    settings: type[S]  # its table of pipeline.toml
    processes: Callable[[RunFacts], list[ProcessPlan]]
    resolve: Callable[[S], tuple[S, list[str]]] | None = None
    check: Callable[[S], list[CheckLine]] | None = None
    step: Callable[[S], Step] | None = None
    optional: bool = False  # a run may be without it
