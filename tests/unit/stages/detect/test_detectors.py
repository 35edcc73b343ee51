"""Both detectors on frames of all sizes, and files that are no detector."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from stages.detect.detector import Detector, crop_face, detect_step, open_detector
from stages.detect.haar import HaarDetector
from stages.detect.spec import DetectSettings
from stages.detect.yunet import YuNetDetector
from stages.faces import Face, check_boxes, pack_faces
from tools.measure_detector import compare, read_frames, read_layout

SIZES = [(1, 1), (2, 3), (3, 2), (33, 17), (271, 481), (8, 1280), (1280, 8), (1, 4000)]


def portrait(width: int, height: int, count: int = 1, size: int = 200) -> NDArray[np.uint8]:
    """Faces in a row on a grey frame, with the last one cut off the border if there is no room."""
    from stages.capture.sources.demo import HEAD, _portrait

    head = cv2.resize(_portrait()[HEAD], (size, round(size * 340 / 275)), interpolation=cv2.INTER_AREA)
    frame = np.full((height, width, 3), 110, np.uint8)
    for number in range(count):
        place = frame[20:, 20 + number * (size + 20) :][: head.shape[0], : head.shape[1]]
        place[:] = head[: place.shape[0], : place.shape[1]]
    return frame


@pytest.fixture(params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "haar":
        return HaarDetector(DetectSettings())
    found: Detector = request.getfixturevalue("yunet")
    return found


@pytest.mark.parametrize("size", SIZES)
def test_frames_of_any_size_without_a_face(detector: Detector, size: tuple[int, int]) -> None:
    for _ in range(3):  # memory that was never written differs from time to time
        faces, crops = detect_step(detector, np.zeros((*size, 3), np.uint8))
        assert faces == []
        assert crops.shape == (0, 48, 48)


@pytest.mark.parametrize("size", [(300, 300), (301, 299), (481, 641)])
def test_a_face_in_frames_of_odd_size(detector: Detector, size: tuple[int, int]) -> None:
    (face,), crops = detect_step(detector, portrait(size[1], size[0]))
    x, y, width, height = face.box_px
    assert 20 <= x < x + width <= 220
    assert 20 <= y < y + height <= 275
    assert 0 < face.score <= 1
    assert crops.shape == (1, 48, 48)
    assert crops.std() > 20


def test_a_4k_frame(detector: Detector) -> None:
    """The box is in the frame's own pixels, though YuNet searches a smaller copy."""
    small = portrait(640, 360)
    (expected,) = detector.detect(small)
    large = np.asarray(cv2.resize(small, (3840, 2160), interpolation=cv2.INTER_CUBIC), np.uint8)
    best = max(detector.detect(large), key=lambda face: (face.score, face.box_px[2]))
    assert np.abs(np.array(best.box_px) / 6 - expected.box_px).max() < 25


def test_answers_can_be_sent(detector: Detector) -> None:
    """Boxes that reach over the border too: the broker checks them."""
    for image in (portrait(190, 230), portrait(640, 300, 3)):
        assert check_boxes(pack_faces(*detect_step(detector, image))) == ""


def test_max_faces_keeps_the_first(detector: Detector, yunet_path: Path) -> None:
    image = portrait(700, 300, 3)
    everything = detector.detect(image)
    assert len(everything) == 3
    model = "haar" if isinstance(detector, HaarDetector) else str(yunet_path)
    assert open_detector(DetectSettings(model=model, max_faces=2)).detect(image) == everything[:2]


def test_haar_has_no_scores_and_gives_squares() -> None:
    detector = HaarDetector(DetectSettings())
    faces = detector.detect(portrait(700, 300, 2))
    assert [face.score for face in faces] == [1.0, 1.0]
    assert faces[0].box_px[2] >= faces[1].box_px[2]
    assert detector.square(faces[0]) == faces[0].box_px[:3]


def test_haar_without_its_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(UserError, match="opencv-python below 5 brings it"):
        HaarDetector(DetectSettings())


def test_yunet_scores_fall(yunet: YuNetDetector) -> None:
    scores = [face.score for face in yunet.detect(portrait(700, 300, 3))]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("max_side", [160, 320, 333])
def test_boxes_of_the_smaller_copy_are_in_the_frames_pixels(
    yunet: YuNetDetector, yunet_path: Path, max_side: int
) -> None:
    image = portrait(640, 480)
    (expected,) = yunet.detect(image)
    (face,) = YuNetDetector(DetectSettings(max_side=max_side), yunet_path).detect(image)
    assert np.abs(np.subtract(face.box_px, expected.box_px)).max() < 15


def test_the_square_of_a_yunet_box(yunet: YuNetDetector) -> None:
    x, y, side = yunet.square(Face((10.0, 20.0, 79.0, 104.0), 0.9))
    assert side == pytest.approx(100, abs=3)
    assert x + side / 2 == pytest.approx(10 + 79 / 2)
    assert y + side / 2 == pytest.approx(20 + 52 - 2, abs=2)


def test_no_faces_where_there_are_none(yunet: YuNetDetector, shared: Path) -> None:
    for image in read_frames(shared / "video" / "no_faces.mp4", 100):
        assert yunet.detect(image) == []


def test_mosaic_tiles_are_found_and_cut_out_as_they_were(yunet: YuNetDetector, shared: Path) -> None:
    labels = shared / "video" / "mosaic_public.json"
    layout, files = read_layout(labels), json.loads(labels.read_bytes())["files"]
    near, far = [], []
    with zipfile.ZipFile(shared / "data" / "fer2013.zip") as pictures:
        frames = read_frames(shared / "video" / "mosaic_public.avi", 10)
        for image, names in zip(frames, files, strict=False):
            true = [read_grey(pictures.read(name)) for name in names]
            for face in yunet.detect(image):
                tile = layout.tile_of(face)
                assert tile is not None
                crop = crop_face(image, yunet.square(face)).astype(int)
                near.append(np.abs(crop - true[tile]).mean())
                far.append(np.abs(crop - true[tile - 1]).mean())
    assert len(near) >= 0.9 * 12 * 10
    assert np.median(near) < 30  # of 255: a few pixels off, at an edge, are much
    assert np.median(far) > 2 * np.median(near)


def read_grey(data: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def bad_files(yunet_file: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"This is no model.\n" * 50,
        "page": b"<!DOCTYPE html><html>404</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 229738\n",
        "cut off": yunet_file[:100_000],
        "damaged": yunet_file[:5000] + bytes(2000) + yunet_file[7000:],
    }


@pytest.mark.parametrize("which", ["empty", "text", "page", "pointer", "cut off", "damaged"])
def test_a_file_that_is_no_yunet(
    which: str, yunet_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(bad_files(yunet_path.read_bytes())[which])
    with pytest.raises(UserError, match=r"detect\.model") as told:
        open_detector(DetectSettings(model=str(path)))
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert capfd.readouterr().err == "", "ONNX Runtime adds nothing"


def test_a_file_that_vanished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        YuNetDetector(DetectSettings(), tmp_path / "gone.onnx")


def test_which_detector_is_opened(yunet_path: Path) -> None:
    assert isinstance(open_detector(DetectSettings(model="haar")), HaarDetector)
    assert isinstance(open_detector(DetectSettings(model=str(yunet_path))), YuNetDetector)


def test_fingerprints_name_the_files(yunet: YuNetDetector, yunet_path: Path) -> None:
    haar = HaarDetector(DetectSettings())
    assert haar.fingerprint.startswith("haar ")
    assert yunet.fingerprint == YuNetDetector(DetectSettings(score_threshold=0.9), yunet_path).fingerprint
    assert yunet.fingerprint.startswith("yunet ")


ROUNDING = 1e-3  # px; 8e-5 on one processor, and each has kernels of its own

CLIPS = [
    "mosaic_public.avi",
    "mosaic_small.avi",
    "no_faces.mp4",
    "one_face_expressions.mp4",
    "one_face_hand_over_mouth.mp4",
    "three_faces_walking.mp4",
]


def opencv_faces(path: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What cv2.FaceDetectorYN finds: boxes and scores (n, 5), by position."""
    size = (image.shape[1], image.shape[0])
    rows = cv2.FaceDetectorYN.create(str(path), "", size, 0.6, 0.3, 5000).detect(image)[1]
    return np.zeros((0, 5), np.float32) if rows is None else by_position(rows[:, [0, 1, 2, 3, 14]])


def our_faces(path: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    faces = YuNetDetector(DetectSettings(), path).detect(image)
    return by_position(np.array([(*face.box_px, face.score) for face in faces]).reshape(-1, 5))


def by_position(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scores that are nearly equal order the rows differently."""
    return np.asarray(rows[np.lexsort((rows[:, 0].round(), rows[:, 1].round()))], np.float32)


@pytest.mark.parametrize("clip", CLIPS)
def test_boxes_equal_those_of_opencv(zoo_path: Path, shared: Path, clip: str) -> None:
    for image in read_frames(shared / "video" / clip, 2):
        expected = opencv_faces(zoo_path, image)
        found = our_faces(zoo_path, image)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max(initial=0) < ROUNDING


@pytest.mark.parametrize("size", [(97, 131), (270, 480), (355, 641), (480, 639)])
def test_boxes_equal_those_of_opencv_at_odd_sizes(yunet_path: Path, size: tuple[int, int]) -> None:
    """The project's own file runs in OpenCV too, and frames are padded as OpenCV pads them."""
    image = portrait(size[1], size[0], 2, size[0] // 2)
    found, expected = our_faces(yunet_path, image), opencv_faces(yunet_path, image)
    assert len(expected) >= 1
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < ROUNDING


def test_agrees_with_the_zoos_file(yunet: YuNetDetector, zoo_path: Path, shared: Path) -> None:
    zoo = YuNetDetector(DetectSettings(), zoo_path)
    counts = [compare(yunet, zoo, read_frames(shared / "video" / clip, 4)) for clip in CLIPS]
    faces, same, own = (sum(column) for column in zip(*counts, strict=True))
    assert faces > 400
    assert same >= 0.99 * faces
    assert own <= 0.01 * faces


def test_buffers_forget_the_frame_before(yunet: YuNetDetector, yunet_path: Path) -> None:
    """A frame between others of all sizes gives what it gives to a new detector."""
    image = portrait(301, 299)
    expected = YuNetDetector(DetectSettings(), yunet_path).detect(image)
    for size in ((720, 1280), (33, 65), (1080, 1920), (299, 320)):
        yunet.detect(np.full((*size, 3), 255, np.uint8))
        assert yunet.detect(image) == expected


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (31, 32), (32, 32), (64, 33), (8, 1280), (1280, 8)])
def test_noise_in_small_frames_is_no_face(yunet: YuNetDetector, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert yunet.detect(rng.integers(0, 256, (*size, 3), np.uint8)) == []


def moved(image: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    return np.asarray(np.roll(image, (down, right), (0, 1)), np.uint8)


@pytest.mark.parametrize("scale", [1, 3])
def test_search_near_known_faces_finds_them_where_they_went(yunet: YuNetDetector, scale: int) -> None:
    """Also in frames so long that a smaller copy is searched."""
    before = np.asarray(cv2.resize(portrait(800, 500, 2), None, fx=scale, fy=scale), np.uint8)
    after = moved(before, 60 * scale, 40 * scale)
    known = [face.box_px for face in yunet.detect(before)]
    everywhere = yunet.detect(after)
    near = yunet.detect(after, known)
    assert len(known) == len(near) == len(everywhere) == 2
    for found, expected in zip(near, everywhere, strict=True):
        assert np.allclose(found.box_px, expected.box_px, atol=0.05 * expected.box_px[2])


def test_search_near_known_faces_leaves_the_rest_of_the_frame_alone(yunet: YuNetDetector) -> None:
    image = portrait(1200, 400, 3)
    first, _, last = sorted(face.box_px for face in yunet.detect(image))
    assert len(yunet.detect(image, [first])) == 1
    assert len(yunet.detect(image, [first, last])) == 2
    assert yunet.detect(image, []) == []
    assert yunet.detect(np.zeros_like(image), [first]) == []


def test_haar_gives_equally_large_faces_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [(301, 86, 138, 138), (129, 103, 138, 138), (5, 5, 200, 200)]

    class Cascade:
        def detectMultiScale(self, *_: object, **__: object) -> list[tuple[int, ...]]:  # noqa: N802
            return boxes

    haar = HaarDetector(DetectSettings())
    monkeypatch.setattr(haar, "_cascade", Cascade())
    image = np.zeros((8, 8, 3), np.uint8)
    first = haar.detect(image)
    boxes.reverse()
    assert haar.detect(image) == first
    assert [face.box_px[0] for face in first] == [5, 129, 301]
