"""The command line: parses the arguments and calls what they ask for.

A usage error, like every UserError, is one line on stderr and status 2.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from pipeline.broker.spec import BROKER
from pipeline.common.errors import UserError
from pipeline.common.files import COMMAND, same_file
from pipeline.common.native_output import take_any_text
from pipeline.config.loader import nearest, override
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import is_picture, parse_sources, paths_of
from pipeline.wire.addresses import check_bindable, check_dialable
from stages.capture.spec import CaptureSettings
from stages.display.spec import MODES, DisplaySettings
from stages.stage import STAGES, TABLES, read_settings

ROLES: Final = tuple(spec.role for spec in (BROKER, *reversed(STAGES)))
USAGE_STATUS: Final = 2
INTERRUPTED_STATUS: Final = 130

PROGRAM: Final = COMMAND.removeprefix("python ")
"""The name in usage and errors."""

_EPILOG: Final = f"""\
examples:
  {COMMAND}                                        the camera or, where there is none, a demo
  {COMMAND} --source browser                       your camera, on the web page whose address is printed
  {COMMAND} --source clip.mp4 --results out.jsonl  a record of every frame
  {COMMAND} --source clip.mp4 --record out.mkv     the video with its faces drawn
  {COMMAND} --source pictures/ --results out.csv   a folder of pictures, a row a face
  {COMMAND} --source 0 --source rtsp://…           several sources at once
  {COMMAND} --source 0 --results - --quiet | jq .  records for another program

commands:
  check            whether the configuration is valid, what would run, what is missing
  report RESULTS   what a finished run has found: a table, a page (--out), JSON (--json)
  bench            frames per second, latency, batches, efficiency, against loops in one process
  keys DIR         make the keys for tcp addresses beyond this machine

`{COMMAND} COMMAND --help` describes each. Without a command the pipeline runs; q in the window or Ctrl-C
ends it. Nothing is stored without --results or --record. pipeline.toml has every setting with its default.
"""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors, which suggests the nearest name for a mistyped option."""

    def __init__(self, program: str, **options: Any) -> None:
        super().__init__(
            prog=program,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        call = self.prog.replace(PROGRAM, COMMAND, 1)
        self.exit(USAGE_STATUS, f"{PROGRAM}: error: {message} (see {call} --help)\n")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            word = unknown[0].partition("=")[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            if not word.startswith("-") and "--source" in arguments and Path(word).exists():
                self.error(f"unknown argument {word!r}: a pattern needs quotes, as in --source 'pics/*.jpg'")
            if not word.startswith("-"):
                self.error(f"unknown argument {word!r}: a command comes first, a source needs --source")
            self.error(f"unknown option {word!r}{nearest(word, known)}")
        return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    take_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and not words[0].startswith("-"):
            return _command(words[0], words[1:])
        return _run(words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_STATUS
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS


def _command(name: str, words: Sequence[str]) -> int:
    commands = {"check": _check, "bench": _bench, "keys": _keys, "report": _report}
    if name not in commands:
        _Parser(PROGRAM).error(f"unknown command {name!r}{nearest(name, commands)}; a source needs --source")
    return commands[name](words)


def _run(words: Sequence[str]) -> int:
    parser = _Parser(
        PROGRAM,
        description="Finds faces in live or recorded video and names their emotions.",
        epilog=_EPILOG,
    )
    settings, here, _ = _pipeline_options(parser, words)
    from pipeline.cli.resolve import run  # imported here, as below, so that help and usage errors are fast

    return run(settings, here)


def _check(words: Sequence[str]) -> int:
    parser = _Parser(
        f"{PROGRAM} check",
        description="Shows whether the configuration is valid, what would run and what is missing.",
    )
    parser.add_argument(
        "--cameras",
        action="store_true",
        help="open each camera: its sizes and rates, and what it delivers for capture.camera_…",
    )
    settings, here, options = _pipeline_options(parser, words)
    from pipeline.cli.check import run_check

    return run_check(settings, here, options.config, options.cameras)


def _bench_parser() -> _Parser:
    parser = _Parser(
        f"{PROGRAM} bench",
        description="Measures the pipeline against the tutorial's loop and a plain loop, or with --against\n"
        "against the pipeline of another checkout. See docs/benchmarks.md.",
    )
    _add_common(parser)
    parser.add_argument("--source", metavar="S", default="demo", help="a video, a folder, demo or demo:N")
    parser.add_argument("--frames", metavar="N", type=_positive, default=300, help="in a run (default 300)")
    parser.add_argument("--runs", metavar="N", type=_positive, default=5, help="repetitions (default 5)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there")
    parser.add_argument("--plots", metavar="DIR", type=Path, help="write the plots there")
    parser.add_argument(
        "--without-tutorial",
        action="store_true",
        help="leave out the tutorial's loop, which needs TensorFlow",
    )
    parser.add_argument(
        "--against",
        metavar="DIR",
        type=Path,
        help="run the pipeline of the checkout in DIR in turn with this one instead of the loops: "
        "`run.py --display none --results FILE`, with DIR/.venv if there is one",
    )
    parser.add_argument(
        "--against-set",
        metavar="table.key=value",
        action="append",
        default=[],
        help="any key of the other checkout's pipeline.toml (--set is for this one alone); repeatable",
    )
    return parser


def _bench(words: Sequence[str]) -> int:
    parser = _bench_parser()
    options = parser.read(words)
    if options.against is not None and (options.plots or options.without_tutorial or options.config):
        parser.error("--plots, --without-tutorial and --config can't be used with --against")
    if options.against is None and options.against_set:
        parser.error("--against-set needs --against DIR")
    settings = read_settings(options.config, options.set)
    from bench.against import run_against, sides
    from bench.command import run_bench

    if options.against is None:
        return run_bench(settings, options)
    return run_against(settings, options, sides(options.against, options.set, options.against_set))


def _keys(words: Sequence[str]) -> int:
    parser = _Parser(
        f"{PROGRAM} keys",
        description="Makes CURVE key pairs for the broker, each stage, run.py itself (supervisor) and\n"
        "programs that read the results (subscriber). Existing pairs are kept. See docs/machines.md.",
    )
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="made if it does not exist; must be closed to other users"
    )
    parser.add_argument(
        "names",
        metavar="STAGE-LABEL",
        nargs="*",
        help="more pairs, for machines with keys of their own: detect-attic",
    )
    options = parser.read(words)
    from pipeline.wire.keys import make_keys

    made, kept = make_keys(options.directory, [spec.role for spec in STAGES], options.names)
    for text, names in (("made", made), ("kept", kept)):
        if names:
            print(f"{text}: {', '.join(names)}")
    print(
        f"for this machine: --set security.keys={options.directory}\n"
        "for each other one: broker.public, and the .secret files of its stages and of supervisor "
        "(docs/machines.md)"
    )
    return 0


def _report(words: Sequence[str]) -> int:
    parser = _Parser(
        f"{PROGRAM} report",
        description="Shows what a finished run has found: when each face was in view, what it showed,\n"
        "and which frames were dropped or failed. See docs/report.md.",
    )
    parser.add_argument("results", metavar="RESULTS", type=Path, help="a .jsonl file of --results")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write one self-contained HTML page there")
    parser.add_argument("--json", metavar="FILE", default="", help="write the figures there; -: print them")
    parser.add_argument(
        "--faces",
        metavar="CLIP",
        action="append",
        default=[],
        help="the analysed file, for a picture of each face on the page; repeatable",
    )
    parser.add_argument(
        "--uncertain-below",
        metavar="P",
        type=_share,
        help="faces with a lower confidence are uncertain (default: as in the results)",
    )
    options = parser.read(words)
    from pipeline.cli.report.command import run_report

    return run_report(options.results, options.out, options.json, options.faces, options.uncertain_below)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="settings (default: pipeline.toml beside run.py)"
    )
    parser.add_argument(
        "--set",
        metavar="table.key=value",
        action="append",
        default=[],
        help="any key of pipeline.toml; repeatable",
    )


def _add_pipeline_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run` and `check`."""
    _add_common(parser)
    parser.add_argument(
        "--source",
        metavar="S",
        action="append",
        help="0, /dev/video0, a file, a folder, 'pics/*.jpg', rtsp://…, - (standard input), demo, "
        "demo:8 (faces), browser (visitors of the web page); clip.mkv#1: a file's second video; repeatable",
    )
    parser.add_argument("--start", metavar="S", type=_seconds, help="where to begin in a file, seconds")
    parser.add_argument(
        "--duration", metavar="S", type=_seconds, help="how much of each source to take, seconds"
    )
    parser.add_argument(
        "--cropped",
        action="store_const",
        const="cropped",
        help="each picture is a face; none is searched for",
    )
    parser.add_argument(
        "--display",
        choices=MODES,
        help="auto: a window where there is a screen, else a web page",
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        help=".jsonl or .csv, one record a frame or a face; -: JSON lines on stdout",
    )
    parser.add_argument(
        "--record", metavar="FILE", help="annotated video, .mkv or .mp4; DIR/: annotated pictures"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), help="who places the processes: local, or ray, on a cluster"
    )
    parser.add_argument("--ray-address", metavar="ADDRESS", help="HOST:PORT of the cluster's head")
    parser.add_argument("--only", metavar="ROLES", help=f"only these stages, here: {','.join(ROLES)}")
    parser.add_argument(
        "--broker", metavar="ADDRESS", help="address of the broker, ipc://PATH or tcp://HOST:PORT"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="warnings and errors only: no status, no summary"
    )
    parser.add_argument("--log-json", action="store_true", help="each line of the log as a JSON object")


def _pipeline_options(
    parser: _Parser, words: Sequence[str]
) -> tuple[PipelineSettings, frozenset[str], argparse.Namespace]:
    """Parse the options of `run` and `check`; return settings, the roles that run here, and all options."""
    _add_pipeline_options(parser)
    options = parser.read(words)
    here = _roles(parser, options.only)
    _check_only(parser, options, here)
    settings = read_settings(options.config, options.set)
    quiet = options.quiet and settings.log.level != "error"
    settings = override(settings, _overrides(options) | ({"log.level": "warning"} if quiet else {}), TABLES)
    _check_outputs(settings)
    address = settings.broker.address
    if settings.run.engine == "ray" and options.only is not None:
        parser.error("--only can't be used with --engine ray, where Ray places the stages")
    if options.only is not None and not address:
        parser.error("--only needs --broker ADDRESS, where all stages connect")
    if "broker" in here:
        for text, name in ((address, "broker.address"), (settings.broker.publish, "broker.publish")):
            if text:
                check_bindable(text, name)
    else:
        check_dialable(address)
    return settings, here, options


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    given = {
        "capture.sources": options.source,
        "capture.start_s": options.start,
        "capture.duration_s": options.duration,
        "detect.model": options.cropped,
        "display.mode": options.display,
        "display.results": options.results,
        "display.record": options.record,
        "broker.address": options.broker,
        "run.engine": options.engine,
        "ray.address": options.ray_address,
        "log.json": options.log_json or None,
        "log.status": False if options.quiet else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _roles(parser: _Parser, text: str | None) -> frozenset[str]:
    if text is None:
        return frozenset(ROLES)
    roles = [role.strip() for role in text.split(",") if role.strip()]
    if not roles:
        parser.error(f"--only: expected some of {','.join(ROLES)}, found {text!r}")
    for role in roles:
        if role not in ROLES:
            parser.error(f"--only: unknown stage {role!r}{nearest(role, ROLES)}")
    return frozenset(roles)


def _check_only(parser: _Parser, options: argparse.Namespace, here: frozenset[str]) -> None:
    """Refuse options of a stage that does not run here, which would be ignored."""
    belongs = {"source": "capture", "start": "capture", "duration": "capture", "cropped": "detect"}
    belongs |= {"display": "display", "results": "display", "record": "display"}
    for option, role in belongs.items():
        if getattr(options, option) is not None and role not in here:
            parser.error(f"--{option} belongs to {role}, which --only leaves out here")


def _check_outputs(settings: PipelineSettings) -> None:
    """Refuse outputs that would overwrite a source."""
    display = settings.of(DisplaySettings)
    try:
        sources = parse_sources(settings.of(CaptureSettings).sources)
        read = [path for source in sources for path in paths_of(source)]
    except (UserError, OSError):
        return  # refused later, with the cause
    for text in (display.results, display.record, settings.log.file):
        if text and any(same_file(text, path) for path in read):
            raise UserError(f"{text} is a source of this run; write to another file")
    folders = {path.absolute().parent for path in read if is_picture(path)}
    if len(folders) > 1:  # their names keep the folders in which they differ
        folders.add(Path(os.path.commonpath(folders)))
    if display.record and any(same_file(display.record, folder) for folder in folders):
        raise UserError(f"{display.record} holds pictures of this run's source; write to another folder")


def _number(text: str, expected: str, most: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most or value == math.inf:
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")
    return value


def _share(text: str) -> float:
    return _number(text, "a number from 0 to 1", 1)


def _seconds(text: str) -> float:
    return _number(text, "seconds, such as 12.5")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)
