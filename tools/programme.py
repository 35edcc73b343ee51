"""`python -m tools.programme`: the whole training programme, from teachers to an int8 file and its scores.

Teachers of other seeds, widths and recipes are trained; a short student for each augmentation is distilled
from them; the best one's augmentation trains the student, which is calibrated, exported as int8 and scored.
Each step is a command of `python -m trainer`, printed before it runs, with its files in a folder of --out.
The same command continues after the last complete step, and in a training after the last complete epoch.

--set changes a setting of all trainings, as `--set fitting.epochs=1` does for a trial. The whole takes about
a day on two cores of a Xeon with AVX-512, by the time of one epoch: it has only been run on small data.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.common.errors import UserError, first_line
from pipeline.common.files import make_folder, write_json
from trainer.__main__ import main as trainer

WIDE: Final = ("network.stem=48", "network.stages=[[80], [160, 160], [256, 256]]")
"""1.7 times the filters of the shipped network: 253 million multiply-adds a face."""

LONG: Final = ("fitting.epochs=100", "fitting.sizes=[[0.0, 40], [0.25, 48]]")

VIDEO: Final = (
    "degradation.coarse_share=0.25",
    "degradation.coarse_px=[20, 44]",
    "degradation.gamma_share=0.25",
    "degradation.side_light_share=0.2",
    "degradation.blur_share=0.1",
    "degradation.jpeg_share=0.15",
    "augmentation.squeeze_share=0.15",
)
"""Faces as video shows them, as in trainer/models/tuned.toml."""

TEACHERS: Final = {
    "teacher-1": (*WIDE, *LONG, "seed=1"),
    "teacher-2": (*WIDE, *LONG, "seed=2"),
    "teacher-video": (*WIDE, *LONG, *VIDEO, "seed=3"),
}
ARMS: Final = {
    "plain": (),
    "video": VIDEO,
    "video-balanced": (*VIDEO, "fitting.balance=0.5"),
}
"""Augmentations that are compared, by students of a quarter of the epochs."""

SHORT: Final = ("fitting.epochs=25",)
CALIBRATED: Final = (
    "adjustment.mix=0.1",
    "adjustment.refit=0.3",
    "confidence.degraded=true",
    "confidence.consensus=0.03",
)
MODEL: Final = "emotion.keras"


class Programme:
    """The steps, with the options that all share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.data = ["--data", str(args.data), "--votes", str(args.votes)]
        self.state = args.out / "programme.json"
        self.done = read_steps(self.state) if self.state.exists() else []

    def run(self) -> None:
        """Run what is left. Raises SystemExit with the status of a step that failed."""
        args = self.args
        others = [str(path) for path in args.others]
        teachers = ["--teachers", *(str(args.out / name / MODEL) for name in TEACHERS)]
        for name, changes in TEACHERS.items():
            self.train(name, changes)
        for name, changes in ARMS.items():
            self.train(name, (*LONG, *SHORT, *changes), teachers)
        arm = max(ARMS, key=self.score)
        print(f"{arm} has the highest macro-F1 on validation, of both outputs together")
        self.train("student", (*LONG, *ARMS[arm]), teachers)
        student = args.out / "student" / MODEL
        votes = [*self.data, *(["--others", *others] if others else [])]
        self.step("calibrate", ["calibrate", str(student), *votes, *sets(CALIBRATED)])
        self.step("export", ["export", str(student), "--int8", *self.data])
        data = ["--data", str(args.data), *others, "--votes", str(args.votes)]
        scores = ["--json", str(args.out / "scores.json")]
        self.step("evaluate", ["evaluate", "--model", str(student.with_suffix(".onnx")), *data, *scores])

    def train(self, name: str, changes: Sequence[str], teachers: Sequence[str] = ()) -> None:
        """Train the network `name`, from its checkpoint if there is one."""
        out = self.args.out / name
        words = ["distill" if teachers else "fit", *self.data, *teachers, "--out", str(out)]
        words += ["--backend", self.args.backend, "--precision", self.args.precision]
        words += sets((*changes, *self.args.set))
        self.step(name, words + (["--resume"] if (out / "checkpoint.json").exists() else []))

    def step(self, name: str, words: list[str]) -> None:
        """Run a command of the trainer unless it is done."""
        if name in self.done:
            return
        print(f"\n{name}: python -m trainer {shlex.join(words)}", flush=True)
        if status := trainer(words):
            sys.exit(status)
        self.done.append(name)
        write_json(self.state, self.done)

    def score(self, name: str) -> float:
        """Return what the networks of the sweep are chosen by: the sum of their macro-F1 on validation."""
        figures: dict[str, Any] = json.loads((self.args.out / name / "emotion.json").read_text())["figures"]
        return float(sum(scores["macro_f1"] for scores in figures.values()))


def read_steps(path: Path) -> list[str]:
    """Return the names of the steps that are done. Raises UserError if they can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(
            f"{path}: expected a list of steps that are done, found none that can be read "
            f"({first_line(error)}); delete it to run all steps again, or choose another --out"
        ) from error


def sets(changes: Sequence[str]) -> list[str]:
    """Return the options for `changes`."""
    return [word for change in changes for word in ("--set", change)]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser("python -m tools.programme", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--data", type=Path, required=True, metavar="PATH", help="FER2013, in any form that `fit` takes")
    add("--votes", type=Path, required=True, metavar="FILE", help="FER+")
    add("--others", type=Path, nargs="*", default=[], metavar="PATH", help="sets that are only scored")
    add("--out", type=Path, required=True, metavar="DIR", help="for all models")
    add("--backend", default="torch", help="Keras backend (default: torch)")
    add("--precision", default="mixed_bfloat16", help="of the arithmetic (default: mixed_bfloat16)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="for all trainings")
    return made


def main() -> int:
    """Run the programme. Returns the exit status; a step that fails ends it with its own."""
    options = parser().parse_args()
    try:
        make_folder(options.out)
        Programme(options).run()
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
