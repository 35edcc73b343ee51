"""What a source is called and of which kind it is, told from its text alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pipeline.common.errors import UserError
from pipeline.wire.limits import MAX_SOURCES
from pipeline.wire.messages import SourceKind

SourceForm = Literal["camera", "stream", "video", "folder", "demo"]

PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
STREAM_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
MAX_DEMO_FACES: Final = 100
EXPECTED: Final = (
    "expected a camera's number, a video, a folder of pictures, an rtsp:// or http:// address, or demo"
)

_DEMO: Final = re.compile(r"demo(?::(?P<faces>[0-9]{1,6}))?")
_CAMERA: Final = re.compile(r"(?:/dev/video)?[0-9]{1,4}")


class SourceSpec(NamedTuple):
    """A source as the command line or `pipeline.toml` names it."""

    text: str  # as given: may hold credentials, never logged
    form: SourceForm
    name: str  # unique in the run, without credentials

    @property
    def kind(self) -> SourceKind:
        return "live" if self.form in ("camera", "stream") else "file"


def parse_sources(texts: Sequence[str]) -> list[SourceSpec]:
    """Return the sources of a run, with names of their own: a second clip.mp4 is `clip.mp4 #2`.

    Raises UserError for a file that is not there, for a demo that can't be, and for more than a run may have.
    """
    if len(texts) > MAX_SOURCES:
        raise UserError(f"capture.sources: expected at most {MAX_SOURCES} sources, found {len(texts)}")
    specs: list[SourceSpec] = []
    taken: set[str] = set()
    for text in texts:
        form = _form(text)
        name = _unused(_name(text, form), taken)
        taken.add(name)
        specs.append(SourceSpec(text, form, name))
    return specs


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    unused = name
    while unused in taken:
        number += 1
        unused = f"{name} #{number}"
    return unused


def demo_faces(text: str, default: int) -> int:
    """How many faces `demo:N` asks for."""
    match = _DEMO.fullmatch(text)
    return int(match["faces"]) if match and match["faces"] else default


def _form(text: str) -> SourceForm:
    if _CAMERA.fullmatch(text):
        return "camera"
    if text.partition(":")[0].lower() in STREAM_SCHEMES:
        return "stream"
    if text == "demo" or text.startswith("demo:"):
        if not _DEMO.fullmatch(text) or not 1 <= demo_faces(text, 1) <= MAX_DEMO_FACES:
            raise UserError(f"source {text!r}: demo or demo:N with N from 1 to {MAX_DEMO_FACES} is expected")
        return "demo"
    return _file_form(text)


def _file_form(text: str) -> SourceForm:
    if not text:
        raise UserError(f"source '': {EXPECTED}")
    if any("\ud800" <= char <= "\udfff" for char in text):  # how Python holds bytes that are not UTF-8
        raise UserError(f"source {text!r}: its name is not UTF-8; rename it")
    path = Path(text)
    try:
        if path.is_dir() or (path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES):
            return "folder"
        if path.exists():
            return "video"
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise UserError(f"source {text!r}: {error.strerror}") from error
    shown = without_credentials(text) if "://" in text else text
    raise UserError(f"source {shown!r}: no such file or folder; {EXPECTED}")


def _name(text: str, form: SourceForm) -> str:
    if form == "camera":
        return f"camera-{text.removeprefix('/dev/video')}"
    if form == "stream":
        return without_credentials(text)
    if form == "demo":
        return text.replace(":", "-")
    return Path(text).resolve().name or text


def without_credentials(url: str) -> str:
    """An address that may be shown: no user, no password, and no query, where tokens travel.

    People do not escape their passwords: whatever may belong to one, up to the last `@`, is left out, even
    if that costs a part of the path.
    """
    scheme, _, rest = url.partition(":")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:  # of a password that holds `?` or `#`, or of a query: nothing is certain
        return f"{scheme}://…"
    return f"{scheme}://{place.rpartition('@')[2].lstrip('/')}"
