"""What a run that goes well leaves: results, recordings, published records and the balance."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from pipeline.common.files import PROJECT
from pipeline.config.sources import SourceSpec
from stages.capture.sources.demo import DemoReader
from tests.support.runs import (
    CLIP_FRAMES,
    CLIP_SIZE,
    Start,
    balance,
    check_record,
    read_csv,
    read_jsonl,
    video_facts,
)

LIMIT_MS = 60_000


def in_order(records: list[dict[str, Any]]) -> bool:
    return [record["frame"] for record in records] == list(range(len(records)))


def demo_picture(faces: int) -> np.ndarray[Any, Any]:
    picture = DemoReader(SourceSpec(f"demo:{faces}", "demo", "demo")).read()
    assert picture is not None and picture.image is not None
    return picture.image


@pytest.mark.long
def test_sources_at_once_each_with_a_record_of_every_frame(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    sources = ["--source", "demo", "--source", clip, "--source", clip]
    done = start(*quick, *sources, "--results", results, "--record", video).end()
    assert done.status == 0
    expected = {  # frames and their size, the recording
        "demo": ((300, 960, 540), video),
        "clip.mp4": ((CLIP_FRAMES, *CLIP_SIZE), tmp_path / "v-2.mkv"),
        "clip.mp4 #2": ((CLIP_FRAMES, *CLIP_SIZE), tmp_path / "v-3.mkv"),
    }
    said = done.stdout.splitlines()
    records = read_jsonl(results)
    for line, (name, (facts, recorded)) in zip(said, expected.items(), strict=False):
        assert line == f"{name}: {balance(facts[0], facts[0])}"
        own = [record for record in records if record["source"] == name]
        assert len(own) == facts[0] and in_order(own)
        assert video_facts(recorded) == facts
    assert said[3] == f"all sources: {balance(300 + 2 * CLIP_FRAMES, 300 + 2 * CLIP_FRAMES)}"
    assert sum(len(record["faces"]) for record in records if record["source"] == "demo") > 300


def test_results_as_rows_and_the_recording_of_a_clip(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    results, video = tmp_path / "r.csv", tmp_path / "v.mp4"
    done = start(*quick, "--source", clip, "--results", results, "--record", video).end()
    assert done.status == 0
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    rows = read_csv(results)
    expected = [
        (str(record["frame"]), str(len(record["faces"])), str(track))
        for record in undisturbed
        for track in [face["track"] for face in record["faces"]] or [""]
    ]
    assert [(row["frame"], row["faces"], row["track"]) for row in rows] == expected
    assert video_facts(video) == (CLIP_FRAMES, *CLIP_SIZE)


def test_the_clip_has_faces_of_two_people_in_order(undisturbed: list[dict[str, Any]]) -> None:
    """What the tests of this folder compare with is worth comparing with."""
    assert len(undisturbed) == CLIP_FRAMES and in_order(undisturbed)
    assert all(record["status"] == "ok" for record in undisturbed)
    seen = [face["track"] for record in undisturbed for face in record["faces"]]
    assert seen.count(1) > CLIP_FRAMES / 2 and seen.count(2) > CLIP_FRAMES / 2


def test_pictures_of_any_kind_and_one_that_is_none(start: Start, quick: list[str], tmp_path: Path) -> None:
    """1×1, odd, grey, RGBA, 16 bits, 4K and 100 faces; results are published as they are written."""
    folder, results = tmp_path / "pictures", tmp_path / "r.jsonl"
    folder.mkdir()
    grace = demo_picture(1)
    pictures = {
        "1 tiny.png": np.zeros((1, 1, 3), np.uint8),
        "2 odd.png": grace[:271, :333],
        "3 grey.png": cv2.cvtColor(grace, cv2.COLOR_BGR2GRAY),
        "4 clear.png": cv2.cvtColor(grace, cv2.COLOR_BGR2BGRA),
        "6 deep.png": grace.astype(np.uint16) * 257,
        "7 line.png": np.full((1, 4000, 3), 128, np.uint8),
        "8 large.jpg": cv2.resize(grace, (3840, 2160)),
        "10 crowd.jpg": cv2.resize(demo_picture(100), (1920, 1080)),
    }
    for name, image in pictures.items():
        assert cv2.imwrite(str(folder / name), image)
    (folder / "5 broken.jpg").write_bytes((folder / "8 large.jpg").read_bytes()[:300])
    (folder / "note.txt").write_text("not a picture")

    slow = ["--set", "capture.pace_fps=2"]  # the subscriber has to be there before the last record
    run = start(*quick, *slow, "--source", folder, "--results", results, "--set", "detect.haar_scale=1.1")
    address = run.line(r"results are published at (\S+)")[1]
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    subscriber.subscribe(b"")
    subscriber.connect(address)
    published: list[bytes] = []
    while subscriber.poll(LIMIT_MS):
        published.append(subscriber.recv())
        if json.loads(published[-1])["frame"] == 8:
            break
    subscriber.close()
    context.term()

    done = run.end()
    assert done.status == 0
    assert f"pictures: {balance(9, 8, failed=1)}" in done.stdout
    assert any("run: 1 frame failed" in line for line in done.stderr)
    records = read_jsonl(results)
    names = [f"{n}" for n in ("1 tiny.png", "2 odd.png", "3 grey.png", "4 clear.png", "5 broken.jpg")]
    names += ["6 deep.png", "7 line.png", "8 large.jpg", "10 crowd.jpg"]
    assert [record["file"] for record in records] == names
    assert [record["status"] for record in records] == ["ok"] * 4 + ["failed"] + ["ok"] * 4
    assert records[4]["reason"].startswith("unreadable: ")
    faces = {record["file"]: len(record["faces"]) for record in records}
    assert faces["3 grey.png"] >= 1 and faces["4 clear.png"] >= 1 and faces["8 large.jpg"] >= 1
    assert faces["10 crowd.jpg"] >= 50
    assert published and results.read_bytes().endswith(b"\n".join(published) + b"\n")
    for line in published:
        check_record(json.loads(line))


@pytest.mark.long
def test_real_clips_with_yunet(start: Start, quick: list[str], shared: Path, tmp_path: Path) -> None:
    clips = {  # frames, and the most people at once
        "three_faces_walking.mp4": (41, 3),
        "one_face_expressions.mp4": (62, 1),
        "one_face_hand_over_mouth.mp4": (51, 1),
        "no_faces.mp4": (23, 0),
    }
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    sources = [word for name in clips for word in ("--source", shared / "video" / name)]
    outputs = ["--results", results, "--record", video]
    done = start(*quick, *sources, *outputs, "--set", "detect.model=yunet").end()
    assert done.status == 0
    records = read_jsonl(results)
    for number, (name, (frames, people)) in enumerate(clips.items(), start=1):
        assert f"{name}: {balance(frames, frames)}" in done.stdout
        own = [record for record in records if record["source"] == name]
        assert len(own) == frames and in_order(own)
        assert max(len(record["faces"]) for record in own) == people
        assert video_facts(video if number == 1 else tmp_path / f"v-{number}.mkv")[0] == frames


@pytest.mark.long
def test_the_model_of_the_project(start: Start, clip: Path, tmp_path: Path) -> None:
    if not (PROJECT / "models" / "emotion.onnx").is_file():
        pytest.skip("models/emotion.onnx is not there")
    results = tmp_path / "r.jsonl"
    options = ["detect.model=haar", "display.mode=none", "capture.max_frames=20"]
    words = [word for option in options for word in ("--set", option)]
    done = start(*words, "--source", clip, "--results", results).end()
    assert done.status == 0
    assert f"clip.mp4: {balance(20, 20)}" in done.stdout
    assert sum(len(record["faces"]) for record in read_jsonl(results)) > 10
