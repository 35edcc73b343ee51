"""Sources that vanish while they play."""

import os
import shutil
from pathlib import Path

import cv2

from tests.support.media import noise, write_clip
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl

FRAMES = 60


def test_sources_vanish_while_they_play(start: Start, quick: list[str], tmp_path: Path, clip: Path) -> None:
    """A video is cut, one is removed (it plays to its end), and a folder is removed; the clip goes on."""
    pictures = [noise(n, 320, 240) for n in range(FRAMES)]  # more than a reader holds of a video
    going = write_clip(tmp_path / "going.mp4", pictures)
    removed = Path(shutil.copyfile(going, tmp_path / "removed.mp4"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(FRAMES):
        assert cv2.imwrite(str(folder / f"{number}.png"), noise(number, 64, 48))
    results = tmp_path / "r.jsonl"
    sources = [word for source in (going, removed, folder, clip) for word in ("--source", source)]
    run = start(*quick, "--set", "capture.pace_fps=10", *sources, "--results", results)
    run.until_records(results, 4 * 5)
    os.truncate(going, 1000)
    removed.unlink()
    shutil.rmtree(folder)
    done = run.end()

    assert done.status == 1
    assert any("going.mp4: " in line and "missing" in line for line in done.stderr), done.stderr
    assert any("frames failed; the results say why" in line for line in done.stderr)
    for name, frames in (("removed.mp4", FRAMES), ("clip.mp4", CLIP_FRAMES)):
        assert f"{name}: {balance(frames, frames)}" in done.stdout
    records = read_jsonl(results)
    frames = [record["frame"] for record in records if record["source"] == "going.mp4"]
    assert 0 < len(frames) < FRAMES and frames == list(range(len(frames)))
    of_folder = [record for record in records if record["source"] == "pictures"]
    assert [record["frame"] for record in of_folder] == list(range(FRAMES))
    lost = [record for record in of_folder if record["status"] == "failed"]
    assert lost and {record["reason"] for record in lost} == {"unreadable: No such file or directory"}
