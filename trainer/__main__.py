"""`python -m trainer`: train a network on FER2013 and score it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pipeline.common.errors import UserError
from pipeline.common.labels import LABEL_SETS
from trainer.fitting.backend import INSTALL
from trainer.settings import known_models

# The rest is imported once it is known what to do: TensorFlow takes seconds, help and errors of usage none.

PACKAGES: Final = ("tensorflow", "keras", "h5py", "onnx", "sklearn", "tensorboardX")
"""The modules of what requirements-train.txt adds to requirements.txt."""

VOTES_HELP = "FER+ (ferplus.csv, fer2013new.csv): what ten people saw in each picture"
DATA_HELP = "FER2013: Kaggle's folder, that as a .zip, or fer2013.csv (plain, .gz, .xz)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    chosen = parser().parse_args(arguments)
    try:
        check_packages()
        if chosen.command in ("fit", "distill"):
            from trainer.fitting.command import fit_command

            fit_command(chosen)
        elif chosen.command == "export":
            from trainer.export.command import export_command

            export_command(chosen)
        else:
            from trainer.scoring.command import evaluate_command

            evaluate_command(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # A folder that one may not enter, a name that is too long: paths fail in more ways than are foreseen.
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}; give a path that can be used", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def check_packages() -> None:
    """Raise UserError if a package of the trainer is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"the trainer needs {', '.join(missing)}: pip install -r requirements-train.txt")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m trainer", description="Train and score facial-emotion networks."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="train a network", description="Train a network on FER2013.")
    add_fit(fit)
    fit.set_defaults(teachers=[])
    add_distill(
        commands.add_parser(
            "distill",
            help="train a network that trained ones teach",
            description="Train a network on FER2013 and on what trained networks say of its faces.",
        )
    )
    add_export(
        commands.add_parser(
            "export",
            help="write a model for ONNX Runtime",
            description="Write a model for ONNX Runtime beside its .keras file, and say so in its card.",
        )
    )
    add_evaluate(
        commands.add_parser("evaluate", help="score a model", description="Score a model on FER2013.")
    )
    return top


def add_fit(command: argparse.ArgumentParser) -> None:
    """The options of `fit`."""
    add = command.add_argument
    add("--data", type=Path, required=True, metavar="PATH", help=DATA_HELP)
    add("--votes", type=Path, metavar="FILE", help=VOTES_HELP)
    add("--out", type=Path, required=True, metavar="DIR", help="for model, card, plots, checkpoints")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--model", choices=known_models(), default="small", help="which network (default: small)"
    )
    which.add_argument("--settings", type=Path, metavar="FILE", help="settings of one's own, as TOML")
    add("--outputs", nargs="+", choices=LABEL_SETS, help="what is learned (default: all that can be)")
    add("--epochs", type=at_least(1), metavar="N", help="passes over the data (default: the network's)")
    add("--batch", type=at_least(1), metavar="N", help="faces a step (default: the network's)")
    add("--seed", type=at_least(0), metavar="N", help="of all that is random (default: 0)")
    add("--backend", choices=list(INSTALL), help="what computes (default: tensorflow)")
    add("--precision", choices=["float32", "mixed_bfloat16"], help="of the computing (default: float32)")
    add(
        "--deterministic",
        action="store_true",
        default=None,
        help="to the bit the same on one machine, on its processor; slower",
    )
    add("--start", type=Path, metavar="FILE", help="begin with the weights of this model, not with new ones")
    add("--set", action="append", metavar="KEY=VALUE", help="any other setting, as in fitting.average=0.99")
    add("--resume", action="store_true", help="go on after the last complete epoch in DIR")
    several = command.add_mutually_exclusive_group()
    several.add_argument("--seeds", type=at_least(1), metavar="N", help="train N times, for mean and spread")
    several.add_argument("--folds", type=at_least(2), metavar="K", help="cross-validate on the training part")


def add_distill(command: argparse.ArgumentParser) -> None:
    """The options of `distill`: those of `fit`, and the teachers."""
    command.add_argument(
        "--teachers",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help=".keras files with their cards",
    )
    command.add_argument(
        "--teacher-share",
        type=float,
        metavar="S",
        help="of the targets, theirs (default: 0.5)",
    )
    add_fit(command)


def add_export(command: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    command.add_argument("model", type=Path, metavar="MODEL.keras", help="its card beside it")
    command.add_argument("--int8", action="store_true", help="twice as fast as float32, which is the default")
    command.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help=f"to calibrate int8 with, and to say what it costs; {DATA_HELP}",
    )
    command.add_argument("--votes", type=Path, metavar="FILE", help=VOTES_HELP)


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    command.add_argument(
        "--model", type=Path, required=True, metavar="FILE", help=".onnx or .keras file, its card beside it"
    )
    command.add_argument("--data", type=Path, required=True, metavar="PATH", help=DATA_HELP)
    command.add_argument(
        "--split",
        choices=["validation", "test"],
        default="validation",
        help="which part (default: validation)",
    )
    command.add_argument(
        "--pictures", type=Path, metavar="FILE", help="score only the pictures named here, one a line"
    )
    command.add_argument(
        "--votes",
        type=Path,
        metavar="FILE",
        help="FER+ (ferplus.csv, fer2013new.csv): score by people's votes too",
    )
    command.add_argument(
        "--compare", type=Path, metavar="FILE", help="another model, to be compared on the same pictures"
    )
    command.add_argument(
        "--bootstrap",
        type=at_least(1),
        default=2000,
        metavar="N",
        help="resamples for intervals (default: 2000)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    command.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw confusion, reliability and mistakes there"
    )


def at_least(least: int) -> Callable[[str], int]:
    """The type, for argparse, of a whole number of at least `least`."""

    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, found {value}")
        return value

    return whole_number


if __name__ == "__main__":
    sys.exit(main())
