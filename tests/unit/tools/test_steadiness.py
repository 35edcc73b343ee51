"""Changes and delays of records whose answers are known."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.common.labels import EMOTIONS
from stages.display.tracks import Smoother
from tools.steadiness import FPS, HOLD, Change, delays, read_faces, steadiness, write_splice


def write_results(path: Path, emotions: list[str]) -> Path:
    """Write records of one face in the middle of a tile, with these emotions by each frame alone."""
    lines = []
    for number, emotion in enumerate(emotions):
        probabilities = {name: 0.7 if name == emotion else 0.05 for name in EMOTIONS}
        face = {"track": 1, "box": [90, 80, 20, 40], "probabilities": probabilities}
        record = {"frame": number, "time_s": number / FPS, "status": "ok", "faces": [face]}
        lines.append(json.dumps(record))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_changes_a_second(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", ["happy", "happy", "sad", "happy", "happy"] * 20)
    found = steadiness(read_faces(results, Smoother(0.5)))
    assert found.seconds == pytest.approx(99 / FPS)
    assert (found.own, found.smoothed) == (pytest.approx(40 / 99 * FPS), 0.0)
    assert found.uncertain == 0.0
    plain = steadiness(read_faces(results, Smoother()))
    assert plain.smoothed == plain.own


def test_delay_of_a_true_change(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", ["happy"] * HOLD + ["sad"] * HOLD)
    change = Change(HOLD, (100.0, 100.0), "happy", "sad")
    at_once = delays(read_faces(results, Smoother()), [change], 40.0)
    assert (at_once.changes, at_once.never, at_once.longest_s) == (1, 0, 0.0)
    smoothed = delays(read_faces(results, Smoother(0.5)), [change], 40.0)
    assert 0.05 < smoothed.median_s < 0.2
    slow = delays(read_faces(results, Smoother(0.5, clear_lead=2.0)), [change], 40.0)
    assert 0.3 < slow.median_s < 0.5
    elsewhere = Change(HOLD, (300.0, 100.0), "happy", "sad")
    unseen = Change(HOLD, (100.0, 100.0), "happy", "fear")
    assert delays(read_faces(results, Smoother(0.5)), [elsewhere, unseen], 40.0).changes == 0


def test_spliced_tiles_change_when_it_is_said(tmp_path: Path) -> None:
    """The mosaic: one picture of two tiles, dark for sad and light for happy."""
    mosaic = tmp_path / "mosaic.mkv"
    image = np.zeros((96, 160, 3), np.uint8)
    image[32:64, 96:128] = 220
    with av.open(mosaic, "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "bgr0"
        for packet in [
            *stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")),
            *stream.encode(None),
        ]:
            container.mux(packet)
    layout = {"tile": 32, "gap": 32, "rows": 1, "cols": 2, "consensus": [["sad", "happy"]]}
    mosaic.with_suffix(".json").write_text(json.dumps(layout))
    changes = write_splice(mosaic, tmp_path / "splice.mkv", 3)
    assert len(changes) == 4
    with av.open(tmp_path / "splice.mkv") as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == 3 * HOLD
    for change in changes:
        x, y = map(round, change.place_px)
        old, new = (frames[n][y - 8 : y + 8, x - 8 : x + 8].mean() for n in (change.frame - 1, change.frame))
        assert (old > 100, new > 100) == (change.old == "happy", change.new == "happy")
