"""The step of the detect process: what becomes of frames as they arrive."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config.sources import SourceSpec
from pipeline.wire.assignment import StopFlag
from pipeline.wire.messages import Encoding, Work
from stages.capture.sources.demo import DemoReader
from stages.detect import main
from stages.detect.spec import DetectOptions, DetectSettings
from stages.image_codec import to_jpeg
from stages.worker import Step, StepError
from tests.support.broker_world import make_assignment


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    """What `run` would have served, with Haar."""
    served: list[Step] = []

    def serve(*_: object, step: Step, **__: object) -> int:
        served.append(step)
        return 0

    monkeypatch.setattr(main, "serve", serve)
    options = DetectOptions(DetectSettings(model="haar"))
    main.run(make_assignment("detect", "detect-1", options=options), StopFlag())
    return served[0]


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    image = DemoReader(SourceSpec("demo:2", "demo", "demo-2")).read().image  # type: ignore[union-attr]
    assert image is not None
    return image


def work(image: NDArray[np.uint8], encoding: Encoding) -> Work:
    return Work("b", 1, 0, image.shape, encoding)  # type: ignore[arg-type]


def test_raw_or_jpeg_the_same_faces_are_found(step: Step, picture: NDArray[np.uint8]) -> None:
    raw = step(work(picture, "raw"), [picture.tobytes()])
    jpeg = step(work(picture, "jpeg"), [to_jpeg(picture, 90)])
    assert len(raw["boxes"]) == 2
    assert np.allclose(*(np.array(sorted(found["boxes"].tolist())) for found in (raw, jpeg)), atol=8)
    assert raw["crops"].shape == jpeg["crops"].shape == (2, 48, 48)


def test_a_broken_jpeg_is_a_failed_frame(step: Step, picture: NDArray[np.uint8]) -> None:
    data = bytes(to_jpeg(picture, 90))
    with pytest.raises(StepError, match="JPEG: cut off"):
        step(work(picture, "jpeg"), [data[:-2]])
    with pytest.raises(StepError, match="JPEG: 480×960 px announced, 960×540 found"):
        step(work(np.zeros((960, 480, 3), np.uint8), "jpeg"), [data])
    assert len(step(work(picture, "jpeg"), [data])["boxes"]) == 2
