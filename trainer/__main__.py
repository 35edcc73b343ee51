"""`python -m trainer`: train a network on FER2013, score it, export it."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipeline.common.errors import UserError
from pipeline.common.labels import LABEL_SETS
from pipeline.common.native_output import take_any_text
from trainer.settings import BACKENDS, known_models

PACKAGES: Final = ("tensorflow", "keras", "h5py", "onnx", "sklearn")
"""The modules of the packages that requirements-train.txt adds to requirements.txt."""

DATA_HELP: Final = "FER2013 or your own: folders as Kaggle's, those as a .zip, or a .csv (plain, .gz, .xz)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 for a UserError, 130 if interrupted."""
    take_any_text()
    args = parser().parse_args(arguments)
    # For the card: the command that makes the files again.
    words = [word for word in arguments or sys.argv[1:] if word != "--resume"]
    args.command_line = shlex.join(["python", "-m", "trainer", *words])
    try:
        if missing := [name for name in PACKAGES if find_spec(name) is None]:
            raise UserError(f"the trainer needs {', '.join(missing)}: pip install -r requirements-train.txt")
        # Imported here: TensorFlow takes seconds, help and usage errors should not.
        import_module(f"trainer.{args.module}").run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # A folder without permission, a name that is too long: paths fail in more ways than are checked.
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m trainer", description="Train, score and export facial-emotion networks."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module, text, add_options in (
        ("fit", "fit", "train a network on FER2013", add_fit),
        ("distill", "fit", "train a network on FER2013 and on the predictions of trained ones", add_distill),
        (
            "calibrate",
            "calibrate",
            "compute offsets and temperatures of a trained model again",
            add_calibrate,
        ),
        ("export", "export", "write a model for ONNX Runtime beside its .keras file", add_export),
        ("evaluate", "evaluate", "score a model on FER2013", add_evaluate),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
        command.set_defaults(module=module)
        add_options(command)
    return top


def add_votes(command: argparse.ArgumentParser) -> None:
    """Add `--votes`."""
    text = "FER+ (ferplus.csv, fer2013new.csv): the votes of ten people for each picture"
    command.add_argument("--votes", type=Path, metavar="FILE", help=text)


def add_data(command: argparse.ArgumentParser, **count: str) -> None:
    """Add the options for which data is read, and how; `count` as in `add_argument`."""
    add = command.add_argument
    text = f"{DATA_HELP}; several make a table" if count else DATA_HELP
    add("--data", type=Path, required=True, metavar="PATH", help=text, **count)
    add_votes(command)
    add("--labels", nargs="+", metavar="EMOTION", help="what folders or rows named by numbers stand for")
    add("--resize", action="store_true", help="make pictures of other sizes 48x48, their middle square")


def add_fit(command: argparse.ArgumentParser) -> None:
    """Add the options of `fit`."""
    command.set_defaults(teachers=[])
    add_data(command)
    add = command.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="for model, card, plots, checkpoints")
    network = command.add_mutually_exclusive_group()
    network.add_argument("--model", choices=known_models(), default="small", help="default: small")
    network.add_argument("--settings", type=Path, metavar="FILE", help="settings of your own, as TOML")
    add("--outputs", nargs="+", choices=LABEL_SETS, help="labels to learn (default: all that the data has)")
    add("--epochs", type=at_least(1), metavar="N", help="passes over the data (default: the network's)")
    add("--batch", type=at_least(1), metavar="N", help="faces a step (default: the network's)")
    add("--seed", type=at_least(0), metavar="N", help="of all random numbers (default: 0)")
    add("--backend", choices=list(BACKENDS), help="Keras backend (default: tensorflow)")
    add("--precision", choices=["float32", "mixed_bfloat16"], help="of the arithmetic (default: float32)")
    add("--deterministic", action="store_true", default=None, help="same result to the bit; slower")
    add("--start", type=Path, metavar="FILE", help="start with the weights of this model, not random ones")
    add("--set", action="append", metavar="KEY=VALUE", help="any other setting, as in fitting.average=0.99")
    add("--resume", action="store_true", help="continue after the last complete epoch in DIR")
    runs = command.add_mutually_exclusive_group()
    runs.add_argument("--seeds", type=at_least(1), metavar="N", help="train N times, for mean and deviation")
    runs.add_argument("--folds", type=at_least(2), metavar="K", help="cross-validate on the training part")


def add_distill(command: argparse.ArgumentParser) -> None:
    """Add the options of `distill`: those of `fit`, and the teachers."""
    add_fit(command)
    add = command.add_argument
    add("--teachers", type=Path, nargs="+", required=True, metavar="FILE", help="models with cards")
    add("--teacher-share", type=float, metavar="S", help="their share in the targets (default: 0.5)")


def add_calibrate(command: argparse.ArgumentParser) -> None:
    """Add the options of `calibrate`."""
    add = command.add_argument
    text = "with its card beside it; all three files are replaced"
    add("model", type=Path, metavar="MODEL.keras", help=text)
    add_data(command)
    add("--set", action="append", metavar="KEY=VALUE", help="as in adjustment.consensus=0.2")
    text = "sets to score for the card, by which you chose"
    add("--others", type=Path, nargs="+", default=[], metavar="PATH", help=text)


def add_export(command: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    add = command.add_argument
    text = ".keras with its card, or .keras or .h5 of your own, with --labels"
    add("model", type=Path, metavar="MODEL", help=text)
    add("--labels", nargs="+", metavar="EMOTION", help="your own model's outputs, in their order")
    ends, text = ("BLACK", "WHITE"), "pixel values that your own model expects for black and white"
    add("--range", nargs=2, type=float, metavar=ends, help=text)
    add("--bgr", action="store_true", help="your own model takes colours as OpenCV has them, not as RGB")
    add("--int8", action="store_true", help="int8, twice as fast as the default, float32")
    add("--data", type=Path, metavar="PATH", help=f"to calibrate int8 and to measure its loss; {DATA_HELP}")
    add_votes(command)


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    add = command.add_argument
    add("--model", type=Path, required=True, metavar="FILE", help=".onnx or .keras file with its card")
    add_data(command, nargs="+")
    add("--output", choices=LABEL_SETS, help="score this output by all labels (default: that of their name)")
    add("--degraded", action="store_true", help="degrade the pictures first as video shows faces")
    add("--split", choices=["validation", "test"], default="validation", help="default: validation")
    add("--pictures", type=Path, metavar="FILE", help="score only the pictures named here, one a line")
    add("--compare", type=Path, metavar="FILE", help="another model to compare on the same pictures")
    add("--bootstrap", type=at_least(1), default=2000, metavar="N", help="resamples (default: 2000)")
    add("--json", type=Path, metavar="FILE", help="write all scores here")
    add("--plots", type=Path, metavar="DIR", help="plot confusion, reliability and mistakes here")


def at_least(least: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers of at least `least`."""

    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, found {value}")
        return value

    return whole_number


if __name__ == "__main__":
    sys.exit(main())
