import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.display.output_file import OutputFailed, Patience
from stages.display.sinks.video import Recording, next_segment, recording_path, remove_parts

CONTAINERS = pytest.mark.parametrize("extension", [".mkv", ".mp4"])


def begun(path: Path) -> Recording:
    """Return a recording that waits for no room on a full disk."""
    return Recording(path, Patience(0.0), lambda: None)


def picture(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Return a frame of one colour, which tells its number: uint8 BGR (height, width, 3)."""
    return np.full((height, width, 3), (20 + 5 * (number % 40), 60, 200), np.uint8)


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


@CONTAINERS
@pytest.mark.parametrize("fps", [12.5, 25.0, 30000 / 1001, 29.97])
def test_size_rate_times_and_pictures_are_the_sources(tmp_path: Path, extension: str, fps: float) -> None:
    path = tmp_path / f"r{extension}"
    recording = begun(path)
    for number in range(40):
        recording.write(picture(number), number / fps, fps)
    recording.close()
    frames = decode(path)
    assert len(frames) == 40
    assert [float(frame.time or 0) for frame in frames] == pytest.approx(
        [n / fps for n in range(40)], abs=6e-4
    )
    for number, frame in enumerate(frames):
        found = frame.to_ndarray(format="bgr24").astype(int)
        assert np.abs(found - picture(number)).mean() < 4
    with av.open(path) as container:
        assert float(container.streams.video[0].average_rate or 0) == pytest.approx(fps, rel=1e-4)
        assert float(container.duration or 0) / av.time_base == pytest.approx(40 / fps, abs=0.1)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-4)


@CONTAINERS
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 1), (63, 48), (64, 47), (65, 49), (1280, 720)])
def test_any_size_is_kept(tmp_path: Path, extension: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"r{extension}"
    recording = begun(path)
    for number in range(3):
        recording.write(picture(number, *size), number / 25, 25.0)
    recording.close()
    assert [(frame.width, frame.height) for frame in decode(path)] == [size] * 3
    image = cv2.VideoCapture(str(path)).read()[1]
    assert image.shape == (size[1], size[0], 3)


@CONTAINERS
def test_a_live_source_plays_at_its_own_times(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"r{extension}"
    times = [0.0, 0.031, 0.1, 0.1, 0.05, 2.5, 2.531]
    recording = begun(path)
    for number, time_s in enumerate(times):
        recording.write(picture(number), time_s, 0.0)
    recording.close()
    found = [float(frame.time or 0) for frame in decode(path)]
    assert found == pytest.approx([0.0, 0.031, 0.1, 0.14, 0.18, 2.5, 2.531], abs=2e-3)


def test_a_frame_of_another_size_is_fitted_in(tmp_path: Path) -> None:
    recording = begun(tmp_path / "r.mkv")
    for number, image in enumerate([picture(0), picture(0, 48, 48), picture(0, 640, 20), picture(0, 1, 1)]):
        recording.write(image, number / 25, 25.0)
    recording.close()
    frames = [frame.to_ndarray(format="bgr24") for frame in decode(tmp_path / "r.mkv")]
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert frames[1][24, 2].max() < 40 and frames[1][24, 32].max() > 150  # bars left and right


KILLED = """
import sys
import numpy as np
from pathlib import Path
from stages.display.output_file import Patience
from stages.display.output_file import Patience
from stages.display.sinks.video import Recording
recording = Recording(Path(sys.argv[1]), Patience(), lambda: None)
rng = np.random.default_rng(0)
for number in range(100):
    recording.write(rng.integers(0, 255, (48, 64, 3), np.uint8), number / 25, 25.0)
print("written", flush=True)
sys.stdin.read()
"""


@CONTAINERS
def test_a_killed_recording_plays_to_about_a_second_before(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"r{extension}"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    frames = decode(path)
    assert 100 - 25 <= len(frames) <= 100
    assert frames[-1].time == pytest.approx((len(frames) - 1) / 25, abs=2e-3)


def record(path: Path) -> None:
    recording = begun(path)
    for number in range(3):
        recording.write(picture(number), number / 25, 25.0)
    recording.close()


def test_segments_are_named_by_source_and_part(tmp_path: Path) -> None:
    first = [recording_path(str(tmp_path / "out.mkv"), number) for number in (1, 2, 3, 4)]
    assert [p.name for p in first] == ["out.mkv", "out-2.mkv", "out-3.mkv", "out-4.mkv"]
    record(first[0])
    record(first[1])
    first[2].touch()  # opened, and killed before a frame came
    first[3].write_bytes(b"\x1aE\xdf\xa3")  # killed before a frame was whole
    second = [next_segment(path) for path in first]
    assert [p.name for p in second] == ["out.part2.mkv", "out-2.part2.mkv", "out-3.mkv", "out-4.mkv"]
    record(second[0])
    assert next_segment(first[0]).name == "out.part3.mkv"


def test_a_new_run_removes_the_parts_of_the_last(tmp_path: Path) -> None:
    for name in ("out.mkv", "out.part2.mkv", "out.part3.mkv", "other.part2.mkv", "out.part5.mkv"):
        (tmp_path / name).write_bytes(b"frames")
    remove_parts(tmp_path / "out.mkv")
    assert {p.name for p in tmp_path.iterdir()} == {"out.mkv", "other.part2.mkv", "out.part5.mkv"}


def test_a_source_without_frames_leaves_no_file(tmp_path: Path) -> None:
    begun(tmp_path / "r.mkv").close()
    assert not list(tmp_path.iterdir())


def test_an_unwritable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "r.mkv"
    with pytest.raises(UserError, match=re.escape(f"recording {path}: cannot be written: No such file")):
        begun(path)


@CONTAINERS
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, extension: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is absent")
    path = tmp_path / f"r{extension}"
    path.symlink_to("/dev/full")
    recording = begun(path)
    with pytest.raises(OutputFailed, match=r"recording .*: cannot be written any more: No space left"):
        for number in range(100):
            recording.write(picture(number), number / 25, 25.0)
    recording.close()


@CONTAINERS
def test_what_was_recorded_before_the_disk_was_full_plays(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"r{extension}"
    recording = begun(path)
    rng = np.random.default_rng(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(OutputFailed, match="File too large"):
            for number in range(1000):
                recording.write(rng.integers(0, 255, (48, 64, 3), np.uint8), number / 25, 25.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    recording.close()
    with av.open(path) as container, contextlib.suppress(av.InvalidDataError):
        found = 0
        for _ in container.decode(video=0):
            found += 1
    assert number - 40 < found <= number + 1
