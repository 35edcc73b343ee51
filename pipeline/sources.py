"""What a source is called and of which kind it is, told from its text alone."""

from typing import Literal, NamedTuple

from pipeline.messages import SourceKind

SourceForm = Literal["camera", "stream", "video", "folder", "demo"]


class SourceSpec(NamedTuple):
    """A source as the command line or `pipeline.toml` names it."""

    text: str  # as given: may hold credentials, never logged
    form: SourceForm
    name: str  # unique in the run, without credentials

    @property
    def kind(self) -> SourceKind:
        return "live" if self.form in ("camera", "stream") else "file"
