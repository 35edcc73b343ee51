"""What the parent hands a child process on its standard input: who it is, and its own settings."""

import msgspec

from pipeline.config.schema import BrokerSettings, CaptureSettings, ClassifySettings, DisplaySettings
from pipeline.config.sources import SourceSpec
from pipeline.wire.messages import Role


class Assignment(msgspec.Struct, frozen=True):
    """Never on a command line, where every user of the machine could read it: sources hold passwords."""

    role: Role | str  # the broker is no role of a peer
    name: str  # as in the log: detect-1
    slot: str  # the same for each restart of this process
    incarnation: int  # how often it has been started before
    parent_pid: int
    address: str
    publish: str
    max_message_bytes: int
    log_level: str
    options: msgspec.Raw  # one of the structs below, or the stage's table of the settings
    frames: str = ""  # the directory of shared frames; empty: they travel in messages
    keys: str = ""  # the directory that they lie in, never a key itself; empty: the address needs none


class BrokerOptions(msgspec.Struct, frozen=True):
    settings: BrokerSettings
    file_window: int
    max_batch: int
    max_delay_ms: float
    drain_s: float
    sources: list[str] | None  # that the run waits for, in this order; None: whatever comes
    encoding: str  # auto, raw or jpeg
    search_interval_s: float


class CaptureOptions(msgspec.Struct, frozen=True):
    source: SourceSpec
    settings: CaptureSettings
    jpeg_quality: int = 90


class ClassifyOptions(msgspec.Struct, frozen=True):
    settings: ClassifySettings
    model: str  # sha256 of the file when the run began; "": not known


class DisplayOptions(msgspec.Struct, frozen=True):
    settings: DisplaySettings  # mode is window or none
    sources: list[str]  # names, in their order
    checkpoint: str  # a file in the run's directory, for the process that replaces this one
