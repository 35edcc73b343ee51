"""Pictures, crops and videos analysed in the caller's own process."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import parse_sources
from pipeline.wire.messages import Delivery
from stages.capture.spec import CaptureSettings
from stages.classify.spec import ClassifySettings
from stages.detect.spec import DetectSettings
from stages.display.record import FaceRecord, Record
from stages.display.spec import DisplaySettings
from stages.faces import Faces
from stages.stage import read_settings

if TYPE_CHECKING:  # OpenCV and ONNX Runtime are loaded by `load`
    from stages.capture.reader import TimedFrame
    from stages.display.display import Display

UNNAMED: Final = "image"
"""The source of a record whose picture has no name."""

Image = NDArray[Any]


def load(*settings: str, config: str | Path | None = None) -> "Analyser":
    """Load detector and model, as pipeline.toml says, and return what analyses with them.

    settings: as on the command line, such as "detect.model=haar"; config: another file than the usual
    pipeline.toml. It takes some tenths of a second: load once. Raises Error for whatever is wrong with them.
    """
    return Analyser(read_settings(None if config is None else Path(config), settings))


def draw(image: Image, record: Record) -> NDArray[np.uint8]:
    """Return a copy of a picture with the faces of its record drawn, (height, width, 3), BGR, uint8.

    image: as for `Analyser.analyse`, but no path. Raises Error for what is no picture.
    """
    from stages.display.drawing import draw_faces

    drawn = _picture(image).copy()
    draw_faces(drawn, record.faces)
    return drawn


class Analyser:
    """Detector and model, loaded and warm. Use one in one thread at a time."""

    def __init__(self, settings: PipelineSettings) -> None:
        from pipeline.cli.resolve import choose_threshold
        from stages.classify.classifier import open_classifier
        from stages.detect.detector import open_detector

        self._settings = settings.replace(choose_threshold(settings))
        self._detector = open_detector(settings.of(DetectSettings))
        self._classifier = open_classifier(settings.of(ClassifySettings))

    def analyse(self, image: Image | str | Path) -> Record:
        """Return the record of one picture: its faces, the most certain ones first.

        image: (height, width, 3), BGR, uint8, as OpenCV reads it, or grey, or BGRA; or the path of a file.
        Raises Error for what is no picture.
        """
        from stages.capture.reader import TimedFrame
        from stages.capture.sources.images import read_picture

        if isinstance(image, str | Path):
            path = Path(image)
            pixels, reason = read_picture(path)
            if pixels is None:
                raise UserError(f"{path}: {reason}")
            frame, name = TimedFrame(pixels, 0.0, path.name), path.name
        else:
            frame, name = TimedFrame(_picture(image), 0.0), UNNAMED
        return self._record(self._display(name), name, 0, frame)

    def analyse_batch(self, crops: Sequence[Image] | Image) -> list[FaceRecord]:
        """Return the emotions of faces that are cut out already, in as few calls of the model as can be.

        crops: square pictures of one face each, as `analyse` takes them, of any size; or (n, 48, 48) grey,
        uint8. The box of each is the whole crop, in its pixels, and its track the place in the batch, from 1.
        Raises Error for what is no picture.
        """
        from stages.detect.detector import crop_face

        pictures = [_picture(crop) for crop in crops]
        shape = self._classifier.crop_shape
        small = np.zeros((len(pictures), *shape), np.uint8)
        for number, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            side = max(height, width)
            small[number] = crop_face(picture, ((width - side) / 2, (height - side) / 2, side), shape)
        boxes = [(0.0, 0.0, float(picture.shape[1]), float(picture.shape[0])) for picture in pictures]
        faces = Faces(boxes, self._classify(small), {})
        return self._written(self._display(UNNAMED), _delivery(UNNAMED, 0, 0.0), faces).faces

    def analyse_video(self, source: str | Path) -> Iterator[Record]:
        """Yield the record of each frame, as a run writes them to its results.

        source: as for --source: a video, a folder of pictures, demo; a camera or stream, which has no end.
        It opens with the first record and closes with the iterator. Raises Error if it does not open, or ends
        early.
        """
        from stages.capture.reader import SourceFailed, open_reader

        specs = parse_sources([str(source)])
        spec = specs[0]
        if len(specs) > 1 or spec.form == "browser":
            raise UserError(f"source {str(source)!r}: one video, folder, camera or stream is expected")
        display = self._display(spec.name)
        reader = open_reader(spec, self._settings.of(CaptureSettings))
        number = 0
        try:
            while (frame := reader.read()) is not None:
                yield self._record(display, spec.name, number, frame)
                number += 1
        except SourceFailed as error:
            raise UserError(str(error)) from error
        finally:
            reader.close()

    def _record(self, display: "Display", source: str, number: int, frame: "TimedFrame") -> Record:
        """Return the record of a frame; one without pixels has failed, as in a run."""
        started_ns = time.monotonic_ns()
        if frame.image is None:
            delivery = _delivery(source, number, frame.time_s, frame.file, started_ns, frame.reason)
            return self._written(display, delivery, Faces([], np.zeros((0, len(EMOTIONS)), np.float32), {}))
        from stages.detect.detector import detect_step

        height, width = frame.image.shape[:2]
        found, crops = detect_step(self._detector, frame.image, crop_shape=self._classifier.crop_shape)
        faces = Faces([face.box_px for face in found], self._classify(crops), {})
        delivery = _delivery(source, number, frame.time_s, frame.file, started_ns, size=(width, height))
        return self._written(display, delivery, faces)

    def _classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, 7) of crops as the model takes them."""
        most = self._settings.of(ClassifySettings).max_batch
        parts = [self._classifier(crops[at : at + most]) for at in range(0, len(crops), most)]
        return np.concatenate([np.zeros((0, len(EMOTIONS)), np.float32), *parts])

    def _display(self, source: str) -> "Display":
        """Return what makes the records of a source, as in the display process, without outputs."""
        from stages.display.display import Display

        settings = self._settings.of(DisplaySettings)
        return Display(msgspec.structs.replace(settings, mode="none", results="", record=""), [source], None)

    @staticmethod
    def _written(display: "Display", delivery: Delivery, faces: Faces) -> Record:
        line = display.deliver(delivery, faces, None, time.monotonic_ns())
        return msgspec.json.decode(line, type=Record)


def _delivery(
    source: str,
    number: int,
    time_s: float,
    file: str = "",
    captured_ns: int = 0,
    reason: str = "",
    size: tuple[int, int] | None = None,
) -> Delivery:
    return Delivery(
        source=source,
        sequence=number,
        captured_ns=captured_ns or time.monotonic_ns(),
        time_s=time_s,
        status="failed" if reason else "ok",
        reason=reason,
        file=file,
        shape=None,
        fps=0.0,
        size=size,
    )


def _picture(image: Image) -> NDArray[np.uint8]:
    """Return a picture as (height, width, 3), BGR, uint8. Raises UserError for what is none."""
    from stages.capture.reader import to_bgr

    shape: tuple[int, ...] = getattr(image, "shape", ())
    channels = shape[2] if len(shape) == 3 else 1
    known = getattr(image, "dtype", None) in (np.uint8, np.uint16, np.float32, np.float64)
    if len(shape) not in (2, 3) or not all(shape) or channels not in (1, 3, 4) or not known:
        found = f"{image.dtype} of shape {shape}" if shape else type(image).__name__
        raise UserError(
            f"a picture: expected a path, or an array (height, width, 3), BGR, uint8, found {found}"
        )
    return to_bgr(image)
