"""`python run.py check`: is the configuration sound, what would run, which parts are missing.

Nothing heavy is loaded and nothing is opened: packages are asked for their versions, files looked for.
"""

import os
import platform
import re
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NamedTuple

from rich.console import Console
from rich.text import Text

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.common.model_card import Card, choose_labels, find_model, read_card
from pipeline.config.loader import DEFAULT_FILE
from pipeline.config.schema import ClassifySettings, DisplaySettings, PipelineSettings
from pipeline.config.sources import SourceSpec, parse_sources
from pipeline.supervisor.plan import ROLES, make_plan
from pipeline.wire.addresses import is_tcp
from stages.detect.model import resolve_model
from stages.display.mode import resolve_display

State = Literal["ok", "note", "missing"]
_COLOURS: Final[dict[State, str]] = {"ok": "green", "note": "yellow", "missing": "bold red"}
_MISSING_STATUS: Final = 2


class Line(NamedTuple):
    """One line of the listing; `missing` is what keeps the pipeline from running."""

    state: State
    part: str
    detail: str


def run_check(
    settings: PipelineSettings,
    sources: Sequence[str],
    only: frozenset[str] | None = None,
    config: Path | None = None,
) -> int:
    """Print the listing; return 0 if the pipeline would run and 2 if something that it needs is missing.

    only: the roles that run here, None for all. config: the file that was named, None for the usual one.
    """
    lines = [*system_lines(config), *package_lines(PROJECT / "requirements.txt")]
    if _runs("capture", only):
        lines += source_lines(sources)
    if _runs("detect", only):
        lines += detector_lines(settings.detect.model)
    if _runs("classify", only):
        lines += model_lines(settings.classify)
    if _runs("display", only):
        lines += display_lines(settings.display)
    lines += output_lines(log=settings.log.file)
    lines += key_lines(settings, only)
    lines += process_lines(settings, sources, only)
    _print(lines)
    return _MISSING_STATUS if any(line.state == "missing" for line in lines) else 0


def system_lines(config: Path | None) -> list[Line]:
    file = config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    return [
        Line("ok", "python", f"{platform.python_version()} on {platform.system()}, {cores()} cores"),
        Line("ok", "configuration", str(file) if file else "the defaults: there is no pipeline.toml"),
    ]


def package_lines(requirements: Path) -> list[Line]:
    """Return a line for each package that is pinned."""
    if not requirements.is_file():
        return [Line("note", "packages", f"no {requirements} to compare with")]
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", requirements.read_text(encoding="utf-8"), re.MULTILINE)
    return [_package_line(name, pinned) for name, pinned in pins]


def source_lines(sources: Sequence[str]) -> list[Line]:
    """Return a line for each source; where none is named, what would be looked for."""
    if sources:
        return [_source_line(source) for source in sources]
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    seen = f"the first of {', '.join(cameras)} that opens" if cameras else "no camera seen"
    return [Line("ok", "source", f"none named: {seen}, else demo")]


def detector_lines(model: str) -> list[Line]:
    """Return the detector that `detect.model` comes to, the project's own checked against its card."""
    try:
        choice = resolve_model(model)
    except UserError as error:
        return [Line("missing", "detector", str(error))]
    if choice.path is None:
        return [Line("ok", "detector", choice.kind)]
    if model != choice.kind:
        return [
            Line("note", "detector", f"{choice.kind}: {choice.path}; there is no card to check it against")
        ]
    return [Line("ok", "detector", f"{choice.kind}: {choice.path}; sha256 is right")]


def model_lines(classify: ClassifySettings) -> list[Line]:
    """Return what the card of the emotion model says, its file checked against it, and whose labels show."""
    path = find_model(classify.model)
    try:
        card = read_card(path)
        labels = choose_labels(card, classify.labels, path)
    except UserError as error:
        return [Line("missing", "emotion model", str(error))]
    return [
        Line("ok", "emotion model", f"{path}: {_card_text(card)}; sha256 and emotions are right"),
        Line("ok", "labels", f"{labels}; the model has {' and '.join(card.outputs)}"),
    ]


def display_lines(display: DisplaySettings) -> list[Line]:
    try:
        resolved, said = resolve_display(display)
        lines = [Line("ok", "display", said or resolved.mode)]
    except UserError as error:
        lines = [Line("missing", "display", str(error))]
    return lines + output_lines(results=display.results, record=display.record)


def output_lines(**outputs: str) -> list[Line]:
    """Return a line for each file that would be written; empty names are outputs that nobody asked for."""
    reasons = {name: (text, _unwritable(Path(text))) for name, text in outputs.items() if text}
    return [
        Line("missing" if reason else "ok", name, reason or f"{text} can be written")
        for name, (text, reason) in reasons.items()
    ]


def key_lines(settings: PipelineSettings, only: frozenset[str] | None) -> list[Line]:
    """Return what becomes of the keys: nothing to say of runs over `ipc` alone."""
    broker, named = settings.broker, settings.security.keys
    work, publishes = is_tcp(broker.address), is_tcp(broker.publish) and _runs("broker", only)
    if not (work or publishes):
        return [Line("note", "keys", f"{named}: not used, as no address is tcp")] if named else []
    if not named:
        return [Line("ok", "keys", "this user's own, made when they are needed")]
    from pipeline.wire.keys import check_keys  # which loads zmq

    roles = [role for role in ("parent", *ROLES) if role == "parent" or _runs(role, only)]
    try:
        check_keys(Path(named).expanduser(), roles if work else ["broker"])
    except UserError as error:
        return [Line("missing", "keys", str(error))]
    return [Line("ok", "keys", f"{named}: those of {', '.join(roles if work else ['broker'])}")]


def process_lines(
    settings: PipelineSettings, sources: Sequence[str], only: frozenset[str] | None
) -> list[Line]:
    """Return which processes would start, with the threads that each is given."""
    # Where no source is named, one camera or the demo is taken: one process all the same.
    specs = [SourceSpec(text, "demo", text) for text in sources or ["demo"]]
    plan = make_plan(settings, specs, only, Path("run"))
    threads = Counter((process.role, process.threads) for process in plan.processes)
    return [
        Line("ok", role, f"{_count(number, 'process', 'es')}, {_count(each, 'thread')} each")
        for (role, each), number in threads.items()
    ]


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _runs(role: str, only: frozenset[str] | None) -> bool:
    return only is None or role in only


def _package_line(name: str, pinned: str) -> Line:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Line("missing", name, f"not installed; pip install {name}=={pinned}")
    if found != pinned:
        return Line("note", name, f"{found}; the pipeline is tested with {pinned}")
    return Line("ok", name, found)


def _source_line(text: str) -> Line:
    try:
        (source,) = parse_sources([text])
    except UserError as error:
        return Line("missing", "source", str(error))
    match source.form:
        case "camera":
            device = Path(f"/dev/video{text}" if text.isdecimal() else text)
            if platform.system() == "Linux" and not device.exists():
                return Line("missing", "source", f"{source.name}: there is no {device}")
            return Line("ok", "source", f"{source.name}: live, not tried")
        case "stream":
            return Line("ok", "source", f"{source.name}: live, not tried")
        case "video":
            return Line("ok", "source", f"{text}: a file of {Path(text).stat().st_size:,} bytes, not opened")
        case "folder":
            return Line("ok", "source", f"{text}: pictures")
        case "demo":
            return Line("ok", "source", f"{text}: the built-in clip")


def _unwritable(path: Path) -> str:
    """Return why a file can't be written, or nothing. Tried by permission only: the file stays as it is."""
    if path.is_dir():
        return f"{path} is a directory; expected a file"
    if not path.absolute().parent.is_dir():
        return f"{path}: no directory {path.absolute().parent}"
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        return f"{path} can't be written: no permission"
    return ""


def _card_text(card: Card) -> str:
    parts = [
        card.name or "unnamed",
        f"{card.parameters:,} parameters",
        f"{card.multiply_adds:,} multiply-adds",
    ]
    for labels, figures in card.figures.items():
        top1 = figures.get("top1") if isinstance(figures, dict) else None
        if isinstance(top1, int | float):
            parts.append(f"{top1:.1%} right by {labels}")
    return ", ".join(parts)


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural if number != 1 else ''}"


def _print(lines: Sequence[Line]) -> None:
    console = Console(highlight=False)
    width = max(len(line.part) for line in lines)
    for line in lines:
        state = Text(f"{line.state:<8}", style=_COLOURS[line.state])
        console.print(
            state.append(f"{line.part:<{width}}  {line.detail}", style="not bold default"), soft_wrap=True
        )
    missing = sum(line.state == "missing" for line in lines)
    verdict = f"{_count(missing, 'part')} missing: it would not run" if missing else "it would run"
    console.print(Text(verdict, style="bold red" if missing else "bold green"))
