"""`run.py report --faces`: each track's picture is cut out of the clip."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.cli.report.page import SIDE_PX, cut_faces
from pipeline.cli.report.summary import read_results
from tests.support.media import write_clip
from tests.support.records import face, record, write_records

SIZE = 160, 120


def picture(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Black; from the third frame on with a red square where the face is."""
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    if number >= 2:
        image[20:70, 10:50] = (0, 0, 255)
    return image


def test_a_face_is_cut_where_it_shows_its_emotion_surely(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [picture(number) for number in range(6)])
    faces = [("fear", 0.99), ("happy", 0.6), ("happy", 0.7), ("happy", 0.95), ("happy", 0.8), ("happy", 0.8)]
    records = [record(n, face(1, *each)) for n, each in enumerate(faces)]
    results = read_results(write_records(tmp_path / "r.jsonl", records), 0.5)
    ((key, file),) = cut_faces(results, [str(clip)]).items()
    assert key == ("clip.mp4", 1)
    cut = Image.open(io.BytesIO(file))
    assert (cut.format, cut.size) == ("JPEG", (SIDE_PX, SIDE_PX))
    red, green, _ = cut.getpixel((SIDE_PX // 2, SIDE_PX // 2))  # type: ignore[misc]
    assert red > 200 > 60 > green


def test_a_clip_that_is_shorter_than_the_run_leaves_faces_without_pictures(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [picture(number) for number in range(2)])
    records = [record(0, face(1, "happy")), record(99, face(2, "sad"))]
    results = read_results(write_records(tmp_path / "r.jsonl", records), 0.5)
    assert list(cut_faces(results, [str(clip)])) == [("clip.mp4", 1)]
