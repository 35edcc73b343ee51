"""How often shown labels change, before and after smoothing, and how late a true change is shown.

Each clip runs through the whole pipeline once, and so does a video of spliced faces whose changes are known
(splice.py). What other smoothing would have shown follows from the same records.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.document import write_document
from bench.measure import say
from pipeline.cli.resolve import choose_threshold
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.display.tracks import CLEAR_LEAD, LEAD, Smoother
from stages.stage import read_settings
from tools.measuring import table
from tools.steadiness.figures import Seen, Steadiness, delays, read_faces, steadiness
from tools.steadiness.splice import write_splice

MOSAIC: Final = Path("../shared/video/mosaic_public.avi")
OTHERS: Final = (0.0, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Time constants, s, beside the setting."""

FACES: Final = 20
"""Faces that each tile of the spliced video shows: 19 changes."""

REACH_PX: Final = 40.0

NO_LEAD: Final = 2.0
"""No emotion leads by so much: changes come by the slow mean alone."""


def run(source: str, folder: Path) -> Path:
    """Return the results file of a run of the pipeline over `source`. Raises UserError if it fails."""
    results = folder / f"{Path(source).stem}.jsonl"
    command = [sys.executable, "run.py", "--source", source, "--display", "none", "--results", str(results)]
    say(f"{source}: running")
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{source}: {' '.join(command)} ended with {done.returncode}: {done.stderr[-300:]}")
    return results


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything, and print the tables."""
    display = choose_threshold(read_settings())
    with tempfile.TemporaryDirectory(prefix="steadiness-") as name:
        folder = Path(name)
        results = {source: run(source, folder) for source in args.clips}
        changes = write_splice(args.mosaic, folder / "splice.mkv", args.faces)
        spliced = run(str(folder / "splice.mkv"), folder)

        def seen(path: Path, smoothing_s: float, clear_lead: float = args.clear_lead) -> list[Seen]:
            threshold = display.uncertain_below
            return read_faces(path, Smoother(smoothing_s, threshold, lead=args.lead, clear_lead=clear_lead))

        clips = {s: steadiness(seen(path, display.smoothing_s))._asdict() for s, path in results.items()}
        others = []
        for clear_lead in (args.clear_lead, NO_LEAD):
            for smoothing_s in sorted({*OTHERS, display.smoothing_s})[clear_lead == NO_LEAD :]:
                rates = [steadiness(seen(path, smoothing_s, clear_lead)) for path in results.values()]
                faces = seen(spliced, smoothing_s, clear_lead)
                row = {"smoothing_s": smoothing_s, "clear_lead": clear_lead, **over_all(rates)}
                row["spliced_labelled"] = steadiness(faces).labelled
                others.append(row | delays(faces, changes, REACH_PX)._asdict())
    document = {
        "smoothing_s": display.smoothing_s,
        "lead": args.lead,
        "clear_lead": args.clear_lead,
        "uncertain_below": display.uncertain_below,
        "clips": clips,
        "spliced": others,
    }
    show(document)
    return document


def over_all(rates: Sequence[Steadiness]) -> dict[str, float]:
    """Return the changes a second over all clips."""
    seconds = max(sum(rate.seconds for rate in rates), 1e-9)
    return {
        "changes_a_second": sum(rate.smoothed * rate.seconds for rate in rates) / seconds,
        "labelled_a_second": sum(rate.labelled * rate.seconds for rate in rates) / seconds,
    }


def show(document: dict[str, Any]) -> None:
    """Print the tables of a document."""
    header = (
        "clip",
        "seconds of faces",
        "changes a second, each frame",
        "smoothed",
        "with uncertain",
        "uncertain",
    )
    rows = [
        (
            Path(source).name,
            f"{row['seconds']:.0f}",
            f"{row['own']:.2f}",
            f"{row['smoothed']:.2f}",
            f"{row['labelled']:.2f}",
            f"{row['uncertain']:.0%}",
        )
        for source, row in document["clips"].items()
    ]
    print(table(header, rows))
    delay_header = (
        "smoothing_s",
        "clear lead",
        "changes a second, all clips",
        "with uncertain",
        "spliced",
        "never shown",
        "median",
        "p90",
        "p95",
    )
    delay_rows = [
        (
            f"{row['smoothing_s']:g}",
            "none" if row["clear_lead"] == NO_LEAD else f"{row['clear_lead']:g}",
            f"{row['changes_a_second']:.2f}",
            f"{row['labelled_a_second']:.2f}",
            f"{row['spliced_labelled']:.2f}",
            f"{row['never']} of {row['changes']}",
            *(f"{1000 * row[key]:.0f} ms" for key in ("median_s", "p90_s", "p95_s")),
        )
        for row in document["spliced"]
    ]
    print(f"\n{table(delay_header, delay_rows)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.steadiness", description=__doc__)
    clips = [
        str(MOSAIC.parent / name)
        for name in ("one_face_expressions.mp4", "one_face_hand_over_mouth.mp4", "three_faces_walking.mp4")
    ]
    parser.add_argument(
        "clips", nargs="*", default=[*clips, "demo"], help="sources (default: the shared clips and demo)"
    )
    parser.add_argument("--mosaic", type=Path, default=MOSAIC, help="faces to splice, with their .json")
    parser.add_argument("--faces", type=int, default=FACES, help=f"spliced, of each tile (default {FACES})")
    parser.add_argument("--lead", type=float, default=LEAD, help=f"of a new emotion (default {LEAD})")
    parser.add_argument(
        "--clear-lead", type=float, default=CLEAR_LEAD, help=f"in the recent mean (default {CLEAR_LEAD})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    try:
        document = measure(args)
        if args.json:
            write_document(args.json, document)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
