"""`check`: what is there, what is missing, what would run."""

from pathlib import Path

import pytest

from pipeline.cli.check import key_lines, package_lines, process_lines, run_check
from pipeline.common.files import PROJECT
from pipeline.config.schema import PipelineSettings
from pipeline.config.stage import CheckLine
from pipeline.wire.keys import make_keys
from stages.capture import spec as capture
from stages.classify import spec as classify
from stages.classify.spec import ClassifySettings
from stages.detect import spec as detect
from stages.display import spec as display
from stages.display.spec import DisplaySettings
from stages.stage import ROLES, read_settings
from tests.support.model_cards import write_model

ALL = frozenset(("broker", *ROLES))


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")


def states(lines: list[CheckLine]) -> list[str]:
    return [line.state for line in lines]


def test_all_there_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.check.cores", lambda: 8)
    assignments = [f"classify.model={write_model(tmp_path)}", "detect.model=haar", "detect.workers=3"]
    settings = read_settings(None, [*assignments, "detect.threads=2", "capture.sources=demo:8"])
    assert run_check(settings, ALL) == 0
    listing = capsys.readouterr().out.splitlines()
    assert listing[-1] == "it would run"
    assert all(line.startswith(("ok ", "note ")) for line in listing[:-1])
    assert "ok      detect         3 processes, 2 threads each" in listing
    assert "\x1b" not in "".join(listing)  # no colours where there is no terminal


def test_each_missing_part_is_a_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings(
        None,
        [
            f"classify.model={tmp_path}/none.keras",
            f"display.results={tmp_path}/none/r.jsonl",
            "display.mode=window",
            "detect.model=none.onnx",
            f"capture.sources={tmp_path}/none.mp4",
        ],
    )
    assert run_check(settings, ALL) == 2
    listing = capsys.readouterr().out.splitlines()
    missing = [line.split()[1] for line in listing if line.startswith("missing ")]
    assert missing == ["source", "emotion", "detector", "display", "results"]
    assert listing[-1] == "5 parts missing: it would not run"


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ([], ""),
        (["display.mode=window"], "display"),
        (["web.host=0.0.0.0", "web.token=long-enough-to-be-one"], "processes"),
    ],
)
def test_what_browser_needs_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], part: str
) -> None:
    given = [f"classify.model={write_model(tmp_path)}", "detect.model=haar", "capture.sources=browser:2"]
    assert run_check(read_settings(None, given + settings), ALL) == (2 if part else 0)
    listing = capsys.readouterr().out.splitlines()
    assert "ok      source         browser:2: visitors of the web page, at most 2 at a time" in listing
    missing = {line.split()[1] for line in listing if line.startswith("missing ")}
    assert missing == ({part} if part else set())


def test_only_what_runs_here_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings(
        None, [f"classify.model={tmp_path}/none.keras", "broker.address=tcp://localhost:9"]
    )
    assert run_check(settings, frozenset({"broker"})) == 0
    assert run_check(settings, frozenset({"broker", "classify"})) == 2
    assert "detector" not in capsys.readouterr().out


def test_packages_are_compared_with_their_pins(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("# why\nmsgspec==0.0.1\nno-such-package==1.2  # why\n")
    assert states(package_lines(pins)) == ["note", "missing"]
    assert "pip install no-such-package==1.2" in package_lines(pins)[1].detail


def test_only_packages_that_the_pipeline_needs_are_listed() -> None:
    listed = {line.part for line in package_lines(PROJECT / "requirements.txt")}
    assert {"onnxruntime", "opencv-python", "pyzmq"} <= listed
    assert not listed & {"tensorflow", "keras", "h5py", "scikit-learn", "torch", "jax"}


def test_sources_are_looked_for_but_not_opened(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"12345")
    there = [str(tmp_path), str(tmp_path / "clip.mp4"), "demo", "demo:8", "http://h/x"]
    assert states(capture.check(capture.CaptureSettings(sources=there))) == ["ok"] * 5
    away = [str(tmp_path / "no.mp4"), "/dev/video987", "987", "demo:0"]
    assert states(capture.check(capture.CaptureSettings(sources=away))) == ["missing"] * 4


def test_a_password_is_never_shown() -> None:
    (line,) = capture.check(capture.CaptureSettings(sources=["rtsp://me:s@cret@camera/stream"]))
    assert "camera" in line.detail
    assert "me:" not in line.detail
    assert "cret" not in line.detail


def test_the_model_tells_its_figures(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    line, labels = classify.check(ClassifySettings(model=str(model)))
    assert line.state == "ok"
    assert labels == CheckLine("ok", "labels", "fer2013; the model has fer2013")
    assert (
        "baseline, 555,623 parameters, 40,000,000 multiply-adds, 48x48 grey, 61.2% right by fer2013"
        in line.detail
    )
    model.write_bytes(b"other")
    assert states(classify.check(ClassifySettings(model=str(model)))) == ["missing"]


def test_labels_that_the_model_has_not_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assignments = [f"classify.model={write_model(tmp_path)}", "detect.model=haar", "capture.sources=demo"]
    assert run_check(read_settings(None, [*assignments, "classify.labels=consensus"]), ALL) == 2
    assert "classify.labels: consensus expected, but " in capsys.readouterr().out
    write_model(tmp_path, outputs=["fer2013", "consensus"])
    assert run_check(read_settings(None, assignments), ALL) == 0
    assert "consensus; the model has fer2013 and consensus" in capsys.readouterr().out


def test_the_display_is_the_one_that_there_is_a_screen_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert states(display.check(DisplaySettings(mode="window"))) == ["missing"]
    assert "no screen" in display.check(DisplaySettings())[0].detail
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(display, "window_trouble", lambda: "")
    assert display.check(DisplaySettings()) == [CheckLine("ok", "display", "window")]


def test_outputs_are_tried_without_touching_them(tmp_path: Path) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text("kept")
    fresh = tmp_path / "new.mkv"
    lines = display.check(DisplaySettings(results=str(old), record=str(fresh)))
    assert states(lines) == ["ok"] * 3
    assert old.read_text() == "kept"
    assert not fresh.exists()
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert states(display.check(DisplaySettings(results=str(folder)))) == ["ok", "missing"]


def test_an_output_without_permission_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write anywhere
    lines = display.check(DisplaySettings(results=str(tmp_path / "r.csv")))
    assert lines[1] == CheckLine(
        "missing", "results", f"{tmp_path / 'r.csv'} can't be written: no permission"
    )


def test_check_lists_keys_where_tcp_needs_them(tmp_path: Path) -> None:
    loopback = read_settings(None, ["broker.address=tcp://127.0.0.1:9"])
    assert key_lines(PipelineSettings(), ALL) == []
    (line,) = key_lines(loopback, ALL)
    assert (line.state, line.detail) == ("ok", "this user's own, made when they are needed")

    directory = tmp_path / "keys"
    named = ["broker.address=tcp://attic:9", f"security.keys={directory}"]
    only = frozenset({"detect"})
    (line,) = key_lines(read_settings(None, named), only)
    assert line.state == "missing" and "make it with: python run.py keys" in line.detail
    make_keys(directory, ROLES)
    assert key_lines(read_settings(None, named), only) == [
        CheckLine("ok", "keys", f"{directory}: those of supervisor, detect")
    ]
    (directory / "detect.secret").chmod(0o644)
    (line,) = key_lines(read_settings(None, named), only)
    assert line.state == "missing" and "chmod 600" in line.detail
    (line,) = key_lines(read_settings(None, named[1:]), ALL)
    assert line.state == "note" and "not used" in line.detail
    publishes = [named[1], "broker.publish=tcp://127.0.0.1:9"]
    assert states(key_lines(read_settings(None, publishes), ALL)) == ["ok"]
    assert key_lines(read_settings(None, publishes), only)[0].state == "note"


def test_a_process_for_each_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.cli.check.cores", lambda: 4)
    for name in ("a.mp4", "b.mp4", "c.mkv"):
        (tmp_path / name).touch()
    sources = capture.CaptureSettings(sources=[str(tmp_path / "*.mp4"), str(tmp_path / "c.mkv")])
    lines = process_lines(PipelineSettings(sources), frozenset({"capture", "display"}))
    assert {line.part: line.detail for line in lines} == {
        "capture": "3 processes, 1 thread each",
        "display": "1 process, 1 thread each",
    }


def test_more_processes_than_cores_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cli.check.cores", lambda: 4)
    settings = PipelineSettings(detect.DetectSettings(workers=4), ClassifySettings(workers=2, threads=3))
    lines = process_lines(settings, frozenset({"detect", "classify"}))
    assert lines == [
        CheckLine("ok", "detect", "4 processes, 1 thread each"),
        CheckLine("note", "classify", "2 processes, 3 threads each: more than this machine's 4 cores"),
    ]


def test_the_detector_is_named() -> None:
    assert detect.check(detect.DetectSettings(model="haar")) == [CheckLine("ok", "detector", "haar")]
    (line,) = detect.check(detect.DetectSettings(model="none.onnx"))
    assert line.state == "missing"
    assert "none.onnx" in line.detail
    assert states(detect.check(detect.DetectSettings())) == ["ok"]


def test_a_detector_without_card_is_noted(tmp_path: Path) -> None:
    mine = tmp_path / "mine.onnx"
    mine.touch()
    assert states(detect.check(detect.DetectSettings(model=str(mine)))) == ["note"]
