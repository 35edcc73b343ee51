"""The names and kinds of sources, from their texts and the names of files alone."""

import difflib
import glob
import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pipeline.common.errors import UserError
from pipeline.wire.messages import MAX_SOURCES, SourceKind

SourceForm = Literal["camera", "stream", "pipe", "video", "folder", "demo", "browser"]

PICTURE_SUFFIXES: Final = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff",
    ".avif", ".avifs", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".ppm", ".pgm", ".pbm", ".pnm",
    ".pfm", ".tga", ".icb", ".vda", ".vst", ".sgi", ".rgb", ".rgba", ".bw", ".ras", ".pcx", ".dcx", ".psd",
    ".qoi", ".dds", ".ico", ".icns",
)  # fmt: skip
"""What Pillow decodes by itself, without other programs such as those for .eps."""

MOVING_SUFFIXES: Final = (".gif", ".apng")
"""A single file of these is played by FFmpeg with all frames; in a folder only its first frame counts."""

STREAM_SCHEMES: Final = (
    "rtsp", "rtsps", "http", "https", "ftp", "rtmp", "rtmps", "rtmpt", "udp", "rtp", "srt", "tcp",
)  # fmt: skip
MAX_DEMO_FACES: Final = 100
VISITORS: Final = 4
"""Of `browser`, at a time. Each has a capture process, which takes some 30 MB before its first frame."""

EXPECTED: Final = (
    "expected a camera's number, a video, a folder of pictures, an rtsp:// or http:// address, "
    "- for standard input, browser, or demo"
)

_CAMERA: Final = re.compile(r"(?:/dev/video)?[0-9]{1,4}")
_PLACED: Final = re.compile(r"(?P<text>(?:(?!://).)+)@(?P<place>camera:[A-Za-z0-9_.-]+)", re.DOTALL)
"""`0@camera:door`. No address: `rtsp://user@camera:554` is another thing."""
_STREAM_NUMBER: Final = re.compile(r"(?P<text>.+)#(?P<number>[0-9]{1,3})", re.DOTALL)
_ADDRESS: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_COUNTER: Final = re.compile(r"%(?:0(?P<digits>[1-9]))?d")
_BARE_ADDRESS: Final = re.compile(
    r"([^/\s]*@)?(localhost|\d+\.\d+\.\d+\.\d+|www\.[^/\s]+|[\w.-]+(?=:\d))(:\d+)?(/|$)"
)
"""An address whose beginning is missing."""

MOST_NAMES: Final = 10_000
"""Names of a folder that are compared with one that is not there."""

_STANDARD_INPUT: Final = ("-", "/dev/stdin", "pipe:", "pipe:0")


class SourceSpec(NamedTuple):
    """A source as the command line or `pipeline.toml` names it."""

    text: str  # as given, without the number of the stream: may hold credentials, never logged
    form: SourceForm
    name: str  # unique in the run, without credentials
    stream: int | None = None  # which of its videos, from 0; None: the default one
    place: str = ""  # camera:door: captured on a machine that Ray knows to have this; empty: anywhere

    @property
    def shown(self) -> str:
        """The text for messages."""
        return without_credentials(self.text) if self.form == "stream" else self.text

    @property
    def kind(self) -> SourceKind:
        """By the text alone: an http address may turn out to be a file."""
        return "live" if self.form in ("camera", "stream", "browser") else "file"


def parse_sources(texts: Sequence[str]) -> list[SourceSpec]:
    """Return the sources of a run, with names of their own: a second clip.mp4 is `clip.mp4 #2`.

    A pattern of videos is as many sources as it matches, `browser:3` three: one for each visitor at a time.
    Raises UserError for a file that is not there, for a
    demo that can't be, for an address of another kind, and for more than a run may have.
    """
    specs: list[SourceSpec] = []
    taken: set[str] = set()
    for given in texts:
        placed = _PLACED.fullmatch(given)
        text, place = (placed["text"], placed["place"]) if placed else (given, "")
        if is_browser(text) and any(spec.form == "browser" for spec in specs):
            raise UserError(f"source {text!r}: browser is named twice; browser:8 is for eight visitors")
        for path, form, stream in _read(text):
            name = _name(path, form) + ("" if stream is None else f"#{stream}")
            if place and form == "camera":
                name += f"@{place.partition(':')[2]}"
            name = _unused(name, taken)
            taken.add(name)
            specs.append(SourceSpec(path, form, name, None if form == "browser" else stream, place))
    if len(specs) > MAX_SOURCES:
        raise UserError(f"capture.sources: expected at most {MAX_SOURCES} sources, found {len(specs)}")
    return specs


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    unused = name
    while unused in taken:
        number += 1
        unused = f"{name} #{number}"
    return unused


def is_browser(text: str) -> bool:
    """Whether a source is the cameras of the web page's visitors."""
    return text.partition(":")[0] == "browser"


def count_of(text: str, default: int, most: int) -> int:
    """Return N of `demo:N` or `browser:N`, from 1 to `most`; without it the default. Raises UserError."""
    form, colon, number = text.partition(":")
    if not colon:
        return default
    count = int(number) if re.fullmatch("[0-9]{1,6}", number) else 0
    if not 1 <= count <= most:
        raise UserError(f"source {text!r}: {form} or {form}:N with N from 1 to {most} is expected")
    return count


def _read(text: str) -> list[tuple[str, SourceForm, int | None]]:
    """Return text, form and number of the stream, or of the visitor, of each source that a text names."""
    if _CAMERA.fullmatch(text):
        return [(text, "camera", None)]
    if text.partition(":")[0] == "demo":
        count_of(text, 1, MAX_DEMO_FACES)
        return [(text, "demo", None)]
    if is_browser(text):
        visitors = count_of(text, VISITORS, MAX_SOURCES)
        return [(text, "browser", number) for number in range(1, visitors + 1)]
    stream = None
    if (numbered := _STREAM_NUMBER.fullmatch(text)) and not _exists(text):
        text, stream = numbered["text"], int(numbered["number"])
    if text in _STANDARD_INPUT:
        return [("-", "pipe", stream)]
    if text.partition(":")[0].lower() in STREAM_SCHEMES:
        return [(text, "stream", stream)]
    address = _ADDRESS.match(text)
    if address and address["scheme"].lower() == "file":
        text = _path_of(text)
    elif address and not _exists(text):
        raise UserError(
            f"source {without_credentials(text)!r}: {address['scheme']}:// addresses can't be read; expected "
            f"one of {', '.join(STREAM_SCHEMES)}, or a file"
        )
    return _files(text, stream)


def _path_of(url: str) -> str:
    """Return the path in a file:// address; %20 and the like are decoded unless such a file exists."""
    plain = url[len("file://") :]
    if _exists(plain):
        return plain
    path = unquote(urlsplit(url).path)
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path  # file:///C:/clip.mp4


def _files(text: str, stream: int | None) -> list[tuple[str, SourceForm, int | None]]:
    """Return the file or folder of that name; without one, what matches it as a pattern."""
    if not text:
        raise UserError(f"source '': {EXPECTED}")
    if any("\ud800" <= char <= "\udfff" for char in text):  # how Python holds bytes that are not UTF-8
        raise UserError(f"source {text!r}: its name is not UTF-8; rename it")
    if text.startswith("~") and not _exists(text):  # no shell has replaced it, as in pipeline.toml
        text = os.path.expanduser(text)  # noqa: PTH111 - which raises nothing
    try:
        if Path(text).exists():
            return [(text, _file_form(Path(text)), stream)]
        matches = pattern_files(text)
    except OSError as error:  # a folder without permission, a name that is too long
        raise UserError(f"source {text!r}: {error.strerror}") from error
    if not matches and _BARE_ADDRESS.match(text) and not _exists(text.partition("/")[0]):
        shown = text.rpartition("@")[2].partition("?")[0]
        raise UserError(f"source {shown!r}: no such file; an address begins with rtsp:// or http://")
    if matches is None:
        raise UserError(f"source {text!r}: no such file or folder; {_meant(text) or EXPECTED}")
    if not matches:
        raise UserError(f"source {text!r}: no file matches this pattern")
    found: list[tuple[str, SourceForm, int | None]] = []
    if any(map(is_picture, matches)):  # together they are one source
        found.append((text, "folder", None))
    return found + [(str(path), _file_form(path), stream) for path in sorted(matches) if not is_picture(path)]


def _meant(text: str) -> str:
    """Return what a name that is not there may stand for; "" if nothing is like it."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and all(map(_exists, parts)):
        return "each source needs a --source of its own"
    asked = Path(text.strip(" '\""))
    try:
        there = {path.name.lower(): path.name for path in islice(asked.parent.iterdir(), MOST_NAMES)}
    except OSError:
        return ""
    near = difflib.get_close_matches(asked.name.lower(), there, 1, 0.8)
    return f"did you mean {str(asked.with_name(there[near[0]]))!r}?" if near and asked.name else ""


def _file_form(path: Path) -> SourceForm:
    suffix = path.suffix.lower()
    picture = path.is_file() and suffix in PICTURE_SUFFIXES and suffix not in MOVING_SUFFIXES
    return "folder" if picture or path.is_dir() else "video"


def _exists(text: str) -> bool:
    return os.path.exists(text)  # noqa: PTH110 - which raises nothing


def is_picture(path: Path) -> bool:
    """Whether a file of a folder counts as a picture, by its name. macOS puts `._a.jpg` beside a.jpg."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def pattern_files(text: str) -> list[Path] | None:
    """Return what frames/%04d.png or pics/*.jpg matches, in no order; None if the text is no pattern.

    As FFmpeg has it, %d stands for digits, and %04d for four of them or more.
    """
    if any(char in text for char in "*?["):
        return [path for path in map(Path, glob.glob(text)) if path.is_file()]  # noqa: PTH207 - with ~, / and .. as they are
    pattern = Path(text)
    counter = _COUNTER.search(pattern.name)
    if counter is None:
        return None
    digits = counter["digits"] or "1"
    before, after = (re.escape(part) for part in pattern.name.split(counter[0], 1))
    numbered = re.compile(rf"{before}[0-9]{{{digits},}}{after}")
    listed = pattern.parent.iterdir() if pattern.parent.is_dir() else ()
    return [path for path in listed if numbered.fullmatch(path.name)]


def paths_of(spec: SourceSpec) -> list[Path]:
    """Return the files that a source reads, or its folder; none for a camera or a stream. Raises OSError."""
    if spec.form not in ("video", "folder"):
        return []
    path = Path(spec.text)
    return [path] if path.exists() else pattern_files(spec.text) or []


def _name(text: str, form: SourceForm) -> str:
    match form:
        case "camera":
            return f"camera-{text.removeprefix('/dev/video')}"
        case "stream":
            return without_credentials(text)
        case "pipe":
            return "stdin"
        case "demo":
            return text.replace(":", "-")
        case "browser":
            return "browser"  # with a number behind it
        case _:
            return Path(text).resolve().name or text


def without_credentials(url: str) -> str:
    """Return an address without user, password and query, which may hold a token.

    Passwords may be unescaped: everything up to the last `@` is left out, even if that removes a part of the
    path.
    """
    scheme, _, rest = url.partition(":")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:  # of a password that holds `?` or `#`, or of a query: nothing is certain
        return f"{scheme}://…"
    return f"{scheme}://{place.rpartition('@')[2].lstrip('/')}"
