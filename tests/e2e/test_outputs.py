"""What a run leaves: results, recordings, published records, its summary; what a refused one leaves alone."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from pipeline.common.files import PROJECT
from pipeline.config.sources import SourceSpec
from stages.capture.sources.demo import DemoReader
from tests.support.media import noise
from tests.support.runs import (
    CLIP_FRAMES,
    CLIP_SIZE,
    Start,
    balance,
    check_record,
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


def test_clip_has_two_faces_in_nearly_every_frame(undisturbed: list[dict[str, Any]]) -> None:
    """The records that other tests compare with are worth comparing with."""
    assert len(undisturbed) == CLIP_FRAMES and in_order(undisturbed)
    assert all(record["status"] == "ok" for record in undisturbed)
    seen = [face["track"] for record in undisturbed for face in record["faces"]]
    assert seen.count(1) > CLIP_FRAMES / 2 and seen.count(2) > CLIP_FRAMES / 2


def test_several_sources_as_jpeg(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Each has its records, its recording and its line; JPEG finds the faces that raw pixels do."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    sources = ["--source", clip, "--source", clip, "--set", "network.encoding=jpeg"]
    done = start(*quick, *sources, "--results", results, "--record", video).end()
    assert done.status == 0, done.stderr
    lines = done.stdout.splitlines()
    names = {"clip.mp4": video, "clip.mp4 #2": tmp_path / "v-2.mkv"}
    for line, (name, recorded) in zip(lines, names.items(), strict=False):
        assert line == f"{name}: {balance(CLIP_FRAMES, CLIP_FRAMES)}"
        own = [record for record in read_jsonl(results) if record["source"] == name]
        assert len(own) == CLIP_FRAMES and in_order(own)
        assert all(0 < record["latency_ms"] < 60_000 for record in own)
        found, expected = (sum(len(record["faces"]) for record in each) for each in (own, undisturbed))
        assert found == pytest.approx(expected, rel=0.1)
        assert video_facts(recorded) == (CLIP_FRAMES, *CLIP_SIZE)
    assert lines[2] == f"all sources: {balance(2 * CLIP_FRAMES, 2 * CLIP_FRAMES)}"
    assert "clock" not in done.stdout, "all on one machine"


def test_pictures_of_any_kind(start: Start, quick: list[str], tmp_path: Path) -> None:
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
    published = subscribe(run.line(r"results are published at (\S+)")[1], last=8)
    done = run.end()
    assert done.status == 0
    assert f"pictures: {balance(9, 8, failed=1)}" in done.stdout
    assert any("run: 1 frame failed" in line for line in done.stderr)
    assert sum("pictures taken 9, left out 1: 1 .txt" in line for line in done.stderr) == 1
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


def test_a_subscriber_as_the_document_has_it(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    text = (PROJECT / "docs" / "outputs.md").read_text(encoding="utf-8")
    section = text.split("## Subscribe to results")[1]
    shell, script = re.findall(r"```(?:sh|python)\n(.*?)```", section, re.DOTALL)[:2]
    home, command = {"HOME": str(tmp_path)}, shell.splitlines()[-1].replace("$HOME", str(tmp_path))
    subprocess.run(["sh", "-c", shell.splitlines()[0]], env=os.environ | home, check=True)
    words = command.replace("clip.mp4", str(clip)).split()[2:]
    run = start(*words, *quick, "--set", "capture.pace_fps=10", **home)
    run.line(f"results are published at ipc://{tmp_path}/.emotions/results")
    python = [sys.executable, "-u", "-c", script]
    with subprocess.Popen(python, env=os.environ | home, stdout=subprocess.PIPE, text=True) as subscriber:
        assert subscriber.stdout is not None
        faces = ast.literal_eval(subscriber.stdout.readline())
        subscriber.kill()
    assert all(face["emotion"] for face in faces)
    assert run.end().status == 0


def subscribe(address: str, last: int) -> list[bytes]:
    """Return what is published, up to the record of frame `last`."""
    published: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe(b"")
        subscriber.connect(address)
        while subscriber.poll(LIMIT_MS):
            published.append(subscriber.recv())
            if json.loads(published[-1])["frame"] == last:
                break
    return published


def test_cropped_pictures_are_faces_and_are_drawn(start: Start, quick: list[str], tmp_path: Path) -> None:
    """No detector would find anything in them."""
    faces, results, drawn = tmp_path / "faces", tmp_path / "r.jsonl", tmp_path / "drawn"
    faces.mkdir()
    for number in range(5):
        cv2.imwrite(str(faces / f"{number}.png"), noise(number, 48, 64))
    words = ("--source", faces, "--cropped", "--results", results, "--record", f"{drawn}/")
    done = start(*quick, *words).end()
    assert (done.status, done.errors) == (0, [])
    boxes = [[face["box"] for face in record["faces"]] for record in read_jsonl(results)]
    assert boxes == [[[0.0, 0.0, 48.0, 64.0]]] * 5
    assert sorted(path.name for path in drawn.iterdir()) == [f"{number}.png" for number in range(5)]
    for path in drawn.iterdir():
        picture, original = cv2.imread(str(path)), cv2.imread(str(faces / path.name))
        assert picture.shape == original.shape
        assert (picture != original).any()


CLIPS = {  # frames, and the most people at once
    "three_faces_walking.mp4": (41, 3),
    "one_face_expressions.mp4": (62, 1),
    "one_face_hand_over_mouth.mp4": (51, 1),
    "no_faces.mp4": (23, 0),
}
CASES = ("base.mp4", "cover_udta_first.mp4", "sar.mp4", "hf_matrix.mp4", "audiolong.flv", "audiolong.ts")


def test_real_clips_with_the_networks_that_come_along(shared: Path, start: Start, tmp_path: Path) -> None:
    """The odd files of CASES all show the same 20 frames of a happy face, 480×270."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    paths = [*(shared / "video" / name for name in CLIPS), *(shared / "cases" / name for name in CASES)]
    sources = [word for path in paths for word in ("--source", path)]
    done = start("--display", "none", *sources, "--results", results, "--record", video).end()
    assert (done.status, done.errors) == (0, [])
    records = read_jsonl(results)
    for number, path in enumerate(paths, start=1):
        frames, people = CLIPS.get(path.name, (20, 1))
        assert f"{path.name}: {balance(frames, frames)}" in done.stdout
        own = [record for record in records if record["source"] == path.name]
        assert len(own) == frames and in_order(own)
        assert max(len(record["faces"]) for record in own) == people
        facts = video_facts(video if number == 1 else tmp_path / f"v-{number}.mkv")
        assert facts[0] == frames
        if path.name in CASES:
            assert facts[1:] == (480, 270)
            assert [face["emotion"] for record in own for face in record["faces"]] == ["happy"] * frames
            assert own[0]["faces"][0]["box"] == pytest.approx([212.4, 40.1, 70.9, 98.0], abs=2.5)
            assert own[-1]["time_s"] - own[0]["time_s"] == pytest.approx(1.52, abs=0.001)


# ------------------------------------------------------------------------------ outputs of an earlier run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def earlier(tmp_path: Path) -> dict[str, bytes]:
    """Outputs that lie there already, a further part of a recording among them."""
    for name in ("r.jsonl", "v.mkv", "v.part2.mkv"):
        (tmp_path / name).write_text(f"{name} of an earlier run")
    return contents(tmp_path)


def test_refused_source_leaves_earlier_outputs(
    start: Start, quick: list[str], tmp_path: Path, earlier: dict[str, bytes]
) -> None:
    """A stage finds what is wrong: one line on stderr, status 2."""
    broken = tmp_path / "letter.mp4"
    broken.write_text("this is no video\n" * 100)
    outputs = ["--results", tmp_path / "r.jsonl", "--record", tmp_path / "v.mkv"]
    done = start(*quick, "--source", broken, *outputs).end()
    assert (done.status, done.stdout) == (2, "")
    (error,) = done.errors
    assert "letter.mp4" in error
    broken.unlink()
    assert contents(tmp_path) == earlier


def test_display_killed_before_the_first_frame(
    start: Start, quick: list[str], clip: Path, tmp_path: Path, earlier: dict[str, bytes]
) -> None:
    """Earlier outputs stay until the run begins; then nothing of them is left, and this run is complete."""
    results, video = tmp_path / "r.jsonl", tmp_path / "v.mkv"
    outputs = ["--results", results, "--record", video]
    run = start(*quick, "--set", "log.status_interval_s=0.5", "--source", clip, *outputs)
    held = run.pid("classify-1")
    os.kill(held, signal.SIGSTOP)  # it is still starting: no frame is asked for before it goes on
    run.line("waiting for classify-1$")  # all others are there
    for _ in range(2):
        pid = run.pid("display")
        os.kill(pid, signal.SIGKILL)
        run.until(lambda pid=pid: bool(set(run.pids("display")) - {pid}))
    assert contents(tmp_path) == earlier
    os.kill(held, signal.SIGCONT)
    done = run.end()
    assert done.status == 0
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    assert [record["source"] for record in read_jsonl(results)] == ["clip.mp4"] * CLIP_FRAMES
    assert contents(tmp_path).keys() == {"r.jsonl", "v.mkv"}
    assert video_facts(video)[0] == CLIP_FRAMES
