"""The tables of `pipeline.toml` that belong to no stage, and what all tables share.

A stage's table is in its spec. `pipeline.toml` repeats all defaults with comments; a test compares them.
"""

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from pipeline.wire.messages import MAX_WINDOW

MAX_WORKERS: Final = 96
"""Processes of one stage: two such stages and MAX_SOURCES captures are fewer than MAX_PEERS."""

MAX_THREADS: Final = 256

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Workers = Annotated[int, Meta(ge=1, le=MAX_WORKERS)]
Threads = Annotated[int, Meta(ge=1, le=MAX_THREADS)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Encoding = Annotated[str, Meta(extra={"choices": ("auto", "raw", "jpeg")})]
Engine = Annotated[str, Meta(extra={"choices": ("local", "ray")})]
LogLevel = Annotated[str, Meta(extra={"choices": ("debug", "info", "warning", "error")})]


DRAIN_S: Final = 2.0
"""How long frames under way may take after a stop, before the broker drops them."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all tables: immutable, and an unknown key is an error."""


class BrokerSettings(Settings, frozen=True):
    """`[broker]`: addresses, limits and timeouts."""

    address: str = ""  # empty: ipc in a directory of the run's own
    publish: str = ""  # where results are published; empty: beside `address`
    max_bytes: Positive = 512 * 1024 * 1024  # pixels held for all sources together
    live_max_wait_ms: Seconds = 500.0  # a live frame that waited longer is dropped
    file_window: Annotated[int, Meta(ge=1, le=MAX_WINDOW)] = 16  # frames of a file that may be under way
    file_share: Fraction = 0.2  # least share of detection that files get beside live sources
    max_message_bytes: Positive = 128 * 1024 * 1024  # a longer message part closes its connection
    peer_timeout_s: Seconds = 1.5  # a stage that is silent for longer, and for 20 of its steps, times out


class NetworkSettings(Settings, frozen=True):
    """`[network]`: the encoding of frames for other machines."""

    encoding: Encoding = "auto"
    jpeg_quality: Annotated[int, Meta(ge=1, le=100)] = 90


class SecuritySettings(Settings, frozen=True):
    """`[security]`: the keys for the network."""

    keys: str = ""  # directory of CURVE keys; empty: this user's own, for the loopback only


class RunSettings(Settings, frozen=True):
    """`[run]`: starting and stopping."""

    start_timeout_s: Seconds = 30.0  # a stage must be ready by then
    stop_timeout_s: Seconds = 5.0  # how long stages may take to end before they are killed
    max_restarts: Positive = 5  # deaths of one role without a written frame in between that end the run
    engine: Engine = "local"  # who places the processes


class RaySettings(Settings, frozen=True):
    """`[ray]`: a run whose processes Ray places on the machines of a cluster."""

    address: str = ""  # of the cluster; empty: one of this machine alone, which ends with the run
    max_workers: Workers = 8  # most processes of detect and classify each, if more than `workers`
    target_age_ms: Seconds = 100.0  # where work waits longer, a process is added
    idle_s: Seconds = 10.0  # after so long with too little to do, one is taken away


class WordsSettings(Settings, frozen=True):
    """`[words]`: the words that people see; records have the names of the fields."""

    angry: str = "angry"
    disgust: str = "disgust"
    fear: str = "fear"
    happy: str = "happy"
    sad: str = "sad"
    surprise: str = "surprise"
    neutral: str = "neutral"
    uncertain: str = "uncertain"


class MetricsSettings(Settings, frozen=True):
    """`[metrics]`: figures for Prometheus, and the probes of Kubernetes."""

    address: str = ""  # HOST:PORT; empty: not served


class LogSettings(Settings, frozen=True):
    """`[log]`."""

    level: LogLevel = "info"
    file: str = ""  # empty: standard error only
    status_interval_s: Seconds = 5.0  # between status lines where there is no terminal
    status: bool = True  # show how the run goes, and its summary
    json: bool = False  # each line as a JSON object


S = TypeVar("S", bound=Settings)


class PipelineSettings:
    """All tables of `pipeline.toml` by their type; a missing one has its defaults."""

    def __init__(self, *tables: Settings) -> None:
        self._tables: dict[type[Settings], Settings] = {type(table): table for table in tables}
        self.broker = self.of(BrokerSettings)
        self.network = self.of(NetworkSettings)
        self.security = self.of(SecuritySettings)
        self.run = self.of(RunSettings)
        self.ray = self.of(RaySettings)
        self.metrics = self.of(MetricsSettings)
        self.log = self.of(LogSettings)

    def of(self, kind: type[S]) -> S:
        """Return the table of this type."""
        table = self._tables.get(kind)
        return table if isinstance(table, kind) else kind()

    def replace(self, *tables: Settings) -> "PipelineSettings":
        """Return the settings with these tables replaced."""
        return PipelineSettings(*(self._tables | {type(table): table for table in tables}).values())


CORE_TABLES: Final[dict[str, type[Settings]]] = {
    "broker": BrokerSettings,
    "network": NetworkSettings,
    "security": SecuritySettings,
    "run": RunSettings,
    "ray": RaySettings,
    "words": WordsSettings,
    "log": LogSettings,
    "metrics": MetricsSettings,
}
"""The tables that belong to no stage."""
