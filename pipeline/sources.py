"""What a source is called and of which kind it is, told from its text alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import UserError
from pipeline.messages import SourceKind

SourceForm = Literal["camera", "stream", "video", "folder", "demo"]

PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
STREAM_SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
MAX_DEMO_FACES: Final = 100

_DEMO: Final = re.compile(r"demo(?::(?P<faces>\d+))?")
_CAMERA: Final = re.compile(r"\d+|/dev/video\d+")


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

    Raises UserError for a file that is not there and for a demo that can't be.
    """
    specs: list[SourceSpec] = []
    for text in texts:
        form = _form(text)
        name = _name(text, form)
        same = sum(spec.name == name or spec.name.startswith(f"{name} #") for spec in specs)
        specs.append(SourceSpec(text, form, f"{name} #{same + 1}" if same else name))
    return specs


def demo_faces(text: str, default: int) -> int:
    """How many faces `demo:N` asks for."""
    match = _DEMO.fullmatch(text)
    return int(match["faces"]) if match and match["faces"] else default


def _form(text: str) -> SourceForm:
    if _CAMERA.fullmatch(text):
        return "camera"
    if urlsplit(text).scheme.lower() in STREAM_SCHEMES:
        return "stream"
    if text == "demo" or text.startswith("demo:"):
        if not _DEMO.fullmatch(text) or not 1 <= demo_faces(text, 1) <= MAX_DEMO_FACES:
            raise UserError(f"source {text!r}: demo or demo:N with N from 1 to {MAX_DEMO_FACES} is expected")
        return "demo"
    path = Path(text)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES):
        return "folder"
    if not path.exists():
        raise UserError(
            f"source {text!r}: no such file or folder; expected a camera's number, a video, a folder of "
            "pictures, an rtsp:// or http:// address, or demo"
        )
    return "video"


def _name(text: str, form: SourceForm) -> str:
    if form == "camera":
        return f"camera-{text.removeprefix('/dev/video')}"
    if form == "stream":
        return without_credentials(text)
    if form == "demo":
        return text.replace(":", "-")
    return Path(text).resolve().name or text


def without_credentials(url: str) -> str:
    """An address that may be shown: no user, no password, and no query, where tokens travel."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
