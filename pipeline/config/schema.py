"""Every setting of `pipeline.toml` as small typed structs, one for each table.

A stage is handed its own table only. The defaults stand here and, commented, in `pipeline.toml`;
a test holds the two equal. A bound that is broken is reported with the key's path.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.wire.limits import MAX_BATCH, MAX_FACES, MAX_WINDOW

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all tables share: they are immutable, and an unknown key is an error."""


class CaptureSettings(Settings, frozen=True):
    """`[capture]`: where frames come from and how many may be under way."""

    sources: list[str] = []
    camera_width: Natural = 0  # px; 0: the camera's own
    camera_height: Natural = 0  # px; 0: the camera's own
    camera_fps: Natural = 0  # frames a second; 0: the camera's own
    file_window: Annotated[int, Meta(ge=1, le=MAX_WINDOW)] = 16  # frames of a file that may be unacknowledged
    reopen_attempts: Natural = 5  # how often in a row a live source is opened again before it ends
    repeat: Natural = 1  # how often a file is played; 0: until stopped
    max_frames: Natural = 0  # a file ends after so many frames, repeats included; 0: all
    pace_fps: Annotated[float, Meta(ge=0)] = 0.0  # rate of a file; 0: its own, or as fast as it goes
    threads: Positive = 1  # decoder threads


class DetectSettings(Settings, frozen=True):
    """`[detect]`: the face detector."""

    model: str = "yunet"  # yunet | haar | the path of a YuNet .onnx file
    workers: Natural = 0  # processes; 0: one for each core
    threads: Positive = 1  # of each process, for OpenCV and ONNX Runtime
    score_threshold: Fraction = 0.6  # YuNet: the least score of a face
    nms_threshold: Fraction = 0.3  # YuNet: boxes that overlap more are one face
    max_side: Positive = 1280  # px; YuNet: a longer frame is searched in a smaller copy
    haar_scale: Annotated[float, Meta(gt=1.0)] = 1.1  # Haar: step between sizes searched
    haar_neighbours: Natural = 5  # Haar: hits that must agree on a face
    min_face_px: Positive = 30  # Haar: the least width of a face
    search_interval_ms: Annotated[float, Meta(ge=0)] = 150.0  # live: how often the whole frame is searched
    max_faces: Annotated[int, Meta(ge=1, le=MAX_FACES)] = (
        256  # faces kept of one frame, the most certain ones
    )


class ClassifySettings(Settings, frozen=True):
    """`[classify]`: the emotion classifier."""

    model: str = "models/emotion.onnx"
    labels: str = "auto"  # auto | consensus | fer2013
    workers: Positive = 1  # processes
    threads: Positive = 1  # of the runtime, in each process
    max_batch: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = 64  # crops in one call of the model
    max_delay_ms: Annotated[float, Meta(ge=0)] = 0.0  # how long a crop may wait for company


class DisplaySettings(Settings, frozen=True):
    """`[display]`: what people see and what is written."""

    mode: str = "auto"  # auto | window | web | none
    results: str = ""  # .jsonl or .csv file; empty: none
    record: str = ""  # .mkv or .mp4 file; empty: none
    mirror: bool = False  # show the window as a mirror does; files are never mirrored


class BrokerSettings(Settings, frozen=True):
    """`[broker]`: addresses, and the bounds of what the broker holds and how long it waits."""

    address: str = ""  # empty: ipc in a directory of the run's own
    publish: str = ""  # where results are published; empty: beside `address`
    max_bytes: Positive = 512 * 1024 * 1024  # pixels held for all sources together
    live_max_wait_ms: Seconds = 500.0  # a live frame that waited longer is dropped
    file_share: Fraction = 0.2  # least share of detection that files get beside live sources
    max_message_bytes: Positive = 128 * 1024 * 1024  # a longer message part closes its connection
    peer_timeout_s: Seconds = 1.5  # a stage silent for longer, and than 20 of its steps, is given up


class NetworkSettings(Settings, frozen=True):
    """`[network]`: how frames travel to other machines."""

    encoding: str = "auto"  # auto | raw | jpeg
    jpeg_quality: Annotated[int, Meta(ge=1, le=100)] = 90


class SecuritySettings(Settings, frozen=True):
    """`[security]`: who may take part over the network."""

    keys: str = ""  # directory of CURVE keys; empty: this user's own, good for the loopback only


class RunSettings(Settings, frozen=True):
    """`[run]`: starting and stopping."""

    start_timeout_s: Seconds = 30.0  # a stage must be ready by then
    stop_timeout_s: Seconds = 5.0  # how long stages may take to end before they are killed
    max_restarts: Positive = 5  # deaths of one role without progress between them that end the run


class LogSettings(Settings, frozen=True):
    """`[log]`."""

    level: str = "info"  # debug | info | warning | error
    file: str = ""  # empty: standard error only
    status_interval_s: Seconds = 5.0  # between status lines where there is no terminal


class PipelineSettings(Settings, frozen=True):
    """The whole of `pipeline.toml`."""

    capture: CaptureSettings = CaptureSettings()
    detect: DetectSettings = DetectSettings()
    classify: ClassifySettings = ClassifySettings()
    display: DisplaySettings = DisplaySettings()
    broker: BrokerSettings = BrokerSettings()
    network: NetworkSettings = NetworkSettings()
    security: SecuritySettings = SecuritySettings()
    run: RunSettings = RunSettings()
    log: LogSettings = LogSettings()
