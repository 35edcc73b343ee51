"""The Python API, exported by `emotions`: `load` analyses in the caller's process, `watch` starts a run."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.files import python_path
from pipeline.common.labels import EMOTIONS
from pipeline.config.schema import PipelineSettings
from pipeline.config.sources import parse_sources
from pipeline.wire.messages import Delivery
from stages.capture.spec import CaptureSettings
from stages.classify.spec import ClassifySettings
from stages.detect.spec import DetectSettings
from stages.display.record import FaceRecord, Record
from stages.display.spec import DisplaySettings
from stages.faces import Face, Faces
from stages.stage import read_settings

if TYPE_CHECKING:  # OpenCV and ONNX Runtime are loaded by `load`
    from stages.capture.reader import TimedFrame
    from stages.display.display import Display

UNNAMED: Final = "image"
"""The source of a record whose picture has no name."""

Image = NDArray[Any]


def load(*settings: str, config: str | Path | None = None) -> "Analyser":
    """Load the detector and model of the settings.

    settings: as on the command line, such as "detect.model=haar"; config: another file than pipeline.toml. It
    takes some tenths of a second. Raises Error for wrong settings, and a model that can't be loaded.
    """
    return Analyser(read_settings(None if config is None else Path(config), settings))


def draw(image: Image, record: Record) -> NDArray[np.uint8]:
    """Return a copy of a picture, (height, width, 3), BGR, uint8, with the faces of its record drawn.

    image: an array as for `Analyser.analyse`. Raises Error for another.
    """
    from stages.display.drawing import draw_faces

    drawn = _picture(image).copy()
    draw_faces(drawn, record.faces)
    return drawn


class Analyser:
    """A detector and a model, loaded and warm. Not thread-safe."""

    def __init__(self, settings: PipelineSettings) -> None:
        from pipeline.cli.resolve import choose_threshold
        from stages.classify.classifier import open_classifier
        from stages.detect.detector import open_detector

        self._settings = settings.replace(choose_threshold(settings))
        self._detector = open_detector(settings.of(DetectSettings))
        self._classifier = open_classifier(settings.of(ClassifySettings))

    def analyse(self, image: Image | str | Path) -> Record:
        """Return the record of one picture; the most certain faces come first.

        image: (height, width, 3), BGR, uint8, as OpenCV reads it, or grey, or BGRA; or the path of a file.
        Raises Error for what is not a picture.
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
        """Return the emotions of cropped faces, classified in batches.

        crops: square pictures of one face each, as `analyse` takes them, of any size; or (n, 48, 48) grey,
        uint8. The box of each is the whole crop, its track the position in the batch, from 1. Raises Error
        for what is not a picture.
        """
        from stages.capture.reader import TimedFrame
        from stages.detect.detector import crop_face

        started_ns = time.monotonic_ns()
        pictures = [_picture(crop) for crop in crops]
        shape = self._classifier.crop_shape
        small = np.zeros((len(pictures), *shape), np.uint8)
        for number, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            side = max(height, width)
            small[number] = crop_face(picture, ((width - side) / 2, (height - side) / 2, side), shape)
        boxes = [(0.0, 0.0, float(picture.shape[1]), float(picture.shape[0])) for picture in pictures]
        faces = Faces(boxes, self._classify(small), {})
        frame = TimedFrame(None, 0.0)
        return _write(self._display(UNNAMED), UNNAMED, 0, frame, faces, started_ns).faces

    def analyse_video(self, source: str | Path) -> Iterator[Record]:
        """Yield the record of each frame, as in the results of a run.

        source: as for --source. It is opened for the first record and closed with the iterator. Raises Error
        if it does not open, or ends early.
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
        from stages.detect.detector import detect_step

        started_ns = time.monotonic_ns()
        found: list[Face] = []
        crops = np.zeros((0, *self._classifier.crop_shape), np.uint8)
        if frame.image is not None:
            found, crops = detect_step(self._detector, frame.image, crop_shape=crops.shape[1:])
        faces = Faces([face.box_px for face in found], self._classify(crops), {})
        return _write(display, source, number, frame, faces, started_ns)

    def _classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, 7) of crops of the model's shape."""
        most = self._settings.of(ClassifySettings).max_batch
        parts = [self._classifier(crops[at : at + most]) for at in range(0, len(crops), most)]
        return np.concatenate([np.zeros((0, len(EMOTIONS)), np.float32), *parts])

    def _display(self, source: str) -> "Display":
        """Return a Display without outputs, which makes the records of a source."""
        from stages.display.display import Display

        settings = self._settings.of(DisplaySettings)
        return Display(msgspec.structs.replace(settings, mode="none", results="", record=""), [source], None)


def _write(
    display: "Display", source: str, number: int, frame: "TimedFrame", faces: Faces, started_ns: int
) -> Record:
    """Return what `display` records of a frame."""
    size = None if frame.image is None else (frame.image.shape[1], frame.image.shape[0])
    delivery = Delivery(
        source=source,
        sequence=number,
        captured_ns=started_ns,
        time_s=frame.time_s,
        status="failed" if frame.reason else "ok",
        reason=frame.reason,
        file=frame.file,
        shape=None,
        fps=0.0,
        size=size,
    )
    line = display.deliver(delivery, faces, None, time.monotonic_ns())
    return msgspec.json.decode(line, type=Record)


def _picture(image: Image) -> NDArray[np.uint8]:
    """Return a picture as (height, width, 3), BGR, uint8. Raises UserError for anything else."""
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


# -------------------------------------------------------------------------------------- a whole run

END_S: Final = 15.0
"""A run takes at most some 7 s to stop; one that takes longer hangs, and is killed."""

log = logging.getLogger("emotions")


def watch(
    sources: str | Path | Sequence[str | Path],
    *settings: str,
    display: str = "none",
    config: str | Path | None = None,
) -> "Watch":
    """Return an iterable run of the pipeline with its processes; it yields records as they are written.

    sources: one or several, as for --source. settings: as on the command line, such as "detect.workers=1".
    display: none or window. The run starts with the `with` block or the loop, and ends with its sources or
    when the block or loop is left. Its log goes to the logger `emotions`. The loop raises Error if the run
    does not start or ends with another status than 0.
    """
    several = [sources] if isinstance(sources, str | Path) else list(sources)
    words = [f"--source={source}" for source in several]
    words += [f"--display={display}", "--results=-", *(f"--set={setting}" for setting in settings)]
    words.append("--set=log.json=false")  # errors are read from the plain log
    if config is not None:
        words.append(f"--config={config}")
    return Watch(words)


class Watch:
    """A run. A slow reader slows files down, and makes live sources drop frames."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._run: _Run | None = None
        self._end: weakref.finalize[[], Watch] | None = None
        self._closed = False

    def __enter__(self) -> "Watch":
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Record]:
        """Yield the records until the run ends. Raises Error if its status is not 0."""
        run = self._start()
        decoder = msgspec.json.Decoder(Record)
        status = 0
        try:
            for line in run.lines:
                yield decoder.decode(line)
                if self._closed:  # by the loop's own body
                    return
            status = run.process.wait()
        finally:
            self.close()
        if status:
            raise UserError(run.errors[0] if run.errors else f"the run ended with status {status}")

    def close(self) -> None:
        """Stop the run and wait for its end. May be called again."""
        self._closed = True
        if self._end is not None:
            self._end()  # once

    def _start(self) -> "_Run":
        if self._closed:
            raise UserError("watch: this run is over; call watch(…) again")
        if self._run is None:
            self._run = _Run(self._words)
            # Also called when this object is deleted, and when the interpreter exits.
            self._end = weakref.finalize(self, self._run.end)
        return self._run


class _Run:
    """The process of a run, and the thread that reads its log."""

    def __init__(self, words: Sequence[str]) -> None:
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.api", *words],
            env=os.environ | {"PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the caller's, who then ends the run
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def lines(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self) -> None:
        """Stop the run, wait, and kill it if it hangs."""
        process = self.process
        assert process.stdin is not None and process.stderr is not None
        self.lines.close()  # so that the run does not wait for a reader
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # see `end_with_stdin`
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()  # its processes end with it
            process.wait()
        self._listener.join()
        process.stderr.close()

    def _listen(self) -> None:
        """Log the lines of the run, and keep its errors."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("error: "):
                self.errors.append(text.removeprefix("error: "))
            log.info("%s", text)


def end_with_stdin() -> None:
    """End in order, as after SIGTERM, once the program that watches has closed its end, or is gone."""
    os.read(sys.stdin.fileno(), 1)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":  # the process of a run: the command line, which ends with its standard input
    from pipeline.cli.main import main

    threading.Thread(target=end_with_stdin, daemon=True).start()
    sys.exit(main())
