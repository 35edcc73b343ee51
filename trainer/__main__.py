"""`python -m trainer`: train a network on FER2013 and score it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError

# The rest is imported once it is known what to do: TensorFlow takes seconds, help and errors of usage none.

DATA_HELP = "FER2013: Kaggle's folder, that as a .zip, or fer2013.csv (plain, .gz, .xz)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    chosen = parser().parse_args(arguments)
    try:
        if chosen.command == "fit":
            from trainer.fitting import fit_command

            fit_command(chosen)
        else:
            from trainer.evaluate import evaluate_command

            evaluate_command(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m trainer", description="Train and score facial-emotion networks."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_fit(commands.add_parser("fit", help="train a network", description="Train a network on FER2013."))
    add_evaluate(
        commands.add_parser("evaluate", help="score a model", description="Score a model on FER2013.")
    )
    return top


def add_fit(command: argparse.ArgumentParser) -> None:
    """The options of `fit`."""
    command.add_argument("--data", type=Path, required=True, metavar="PATH", help=DATA_HELP)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="for model, card, plots, checkpoints"
    )
    command.add_argument(
        "--model", choices=["baseline"], default="baseline", help="which network (default: baseline)"
    )
    command.add_argument(
        "--epochs", type=positive, default=50, metavar="N", help="passes over the data (default: 50)"
    )
    command.add_argument(
        "--batch", type=positive, default=1024, metavar="N", help="faces a step (default: 1024)"
    )
    command.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of all that is random (default: 0)"
    )
    command.add_argument("--resume", action="store_true", help="go on after the last complete epoch in DIR")


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    command.add_argument(
        "--model", type=Path, required=True, metavar="FILE", help=".keras file, its card beside it"
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
        type=positive,
        default=2000,
        metavar="N",
        help="resamples for intervals (default: 2000)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    command.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw confusion, reliability and mistakes there"
    )


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {value}")
    return value


def natural(text: str) -> int:
    """A whole number of at least 0, for argparse."""
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, found {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
