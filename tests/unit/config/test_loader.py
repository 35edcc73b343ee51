"""Settings from `pipeline.toml` and --set; every mistake is one line that names key, expected and found."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from pipeline.common.errors import UserError
from pipeline.config.loader import DEFAULT_FILE, override
from pipeline.config.schema import PipelineSettings
from stages.capture.spec import CaptureSettings
from stages.classify.spec import ClassifySettings
from stages.detect.spec import DetectSettings
from stages.display.spec import DisplaySettings
from stages.stage import TABLES, read_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_of_the_project_holds_every_default() -> None:
    defaults = {name: msgspec.to_builtins(table()) for name, table in TABLES.items()}
    assert tomllib.loads(DEFAULT_FILE.read_text(encoding="utf-8")) == defaults
    settings = read_settings(None)
    assert all(settings.of(table) == table() for table in TABLES.values())


def test_every_default_is_commented() -> None:
    lines = DEFAULT_FILE.read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    for number in keys:
        block = number
        while block in keys:  # keys that stand together share a comment
            block -= 1
        assert lines[block].startswith("#"), lines[number]


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, "[detect]\nworkers = 3\nscore_threshold = 1\n"))
    assert (settings.of(DetectSettings).workers, settings.of(DetectSettings).score_threshold) == (3, 1.0)
    assert settings.of(ClassifySettings) == ClassifySettings()


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("detect.workers=3", 3),
        ("detect.score_threshold=0.25", 0.25),
        ("display.mirror=true", True),
        ("detect.model=../x=y.onnx", "../x=y.onnx"),
        ("log.file=", ""),
        ("capture.sources=a.mp4, rtsp://h/x", ["a.mp4", "rtsp://h/x"]),
        ("capture.sources=0", ["0"]),
        ('capture.sources=["a, b.mp4"]', ["a, b.mp4"]),
        ("capture.sources=", []),
    ],
)
def test_set_reads_a_value_by_its_type(assignment: str, expected: object) -> None:
    table, key = assignment.partition("=")[0].split(".")
    found = getattr(read_settings(None, [assignment]).of(TABLES[table]), key)
    assert found == expected
    assert type(found) is type(expected)


def test_set_wins_over_the_file_and_the_last_one_over_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, "[detect]\nworkers = 3\n")
    assert read_settings(path, ["detect.workers=4", "detect.workers=5"]).of(DetectSettings).workers == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[detct]\n", "unknown table 'detct': did you mean detect?"),
        ("detect = 3\n", "detect: expected a table [detect], found 3"),
        ("[detect]\nmodl = 'x'\n", "unknown key detect.modl: did you mean detect.model?"),
        ("[log]\nzzz = 1\n", "unknown key log.zzz: expected one of level, file, status_interval_s"),
        (
            "[detect]\nworkers = '2'\n",
            "detect.workers: expected a whole number at least 0 and at most 96, found '2'",
        ),
        (
            "[detect]\nworkers = true\n",
            "detect.workers: expected a whole number at least 0 and at most 96, found true",
        ),
        (
            "[detect]\nworkers = 2.0\n",
            "detect.workers: expected a whole number at least 0 and at most 96, found 2.0",
        ),
        ("[detect]\nhaar_scale = 1\n", "detect.haar_scale: expected a number above 1, found 1"),
        (
            "[broker]\nfile_share = 2\n",
            "broker.file_share: expected a number at least 0 and at most 1, found 2",
        ),
        (
            "[broker]\nfile_share = nan\n",
            "broker.file_share: expected a number at least 0 and at most 1, found nan",
        ),
        ("[run]\nstop_timeout_s = inf\n", "run.stop_timeout_s: expected a number above 0, found inf"),
        (
            "[run]\nstop_timeout_s = 1" + "0" * 400,
            f"run.stop_timeout_s: expected a number above 0, found 1{'0' * 56}…",
        ),
        (
            "[run]\nstop_timeout_s = 1" + "0" * 5000,
            "Exceeds the limit (4300 digits) for integer string conversion",
        ),
        (
            "[broker]\nmax_bytes = 9223372036854775808",
            "broker.max_bytes: expected a whole number at least 1, found 9223372036854775808",
        ),
        ("[display]\nmirror = 1\n", "display.mirror: expected true or false, found 1"),
        ("[log]\nlevel = 3\n", "log.level: expected a text, found 3"),
        ("[capture]\nsources = 'x'\n", "capture.sources: expected a list of texts, found 'x'"),
        (
            "[capture]\nsources = 'rtsp://me:secret@h/x'\n",
            "capture.sources: expected a list of texts, found 'rtsp://…@h/x'",
        ),
        ("[capture]\nsources = [0]\n", "capture.sources: expected a list of texts, found [0]"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("detect.workers", "--set: expected table.key=value, found 'detect.workers'"),
        ("workers=3", "--set: expected table.key=value, found 'workers=3'"),
        ("detct.workers=3", "--set: unknown table 'detct': did you mean detect?"),
        ("detect.worker=3", "--set: unknown key detect.worker: did you mean detect.workers?"),
        (
            "detect.workers=two",
            "--set: detect.workers: expected a whole number at least 0 and at most 96, found 'two'",
        ),
        (
            "detect.workers=99999",
            "--set: detect.workers: expected a whole number at least 0 and at most 96, found '99999'",
        ),
        (
            "classify.workers=97",
            "--set: classify.workers: expected a whole number at least 1 and at most 96, found '97'",
        ),
        (
            "detect.threads=1000",
            "--set: detect.threads: expected a whole number at least 1 and at most 256, found '1000'",
        ),
        ("display.mirror=yes", "--set: display.mirror: expected true or false, found 'yes'"),
        (
            "classify.max_batch=1025",
            "--set: classify.max_batch: expected a whole number at least 1 and at most 1024, found '1025'",
        ),
        ("log.level=inf", "--set: log.level: 'inf' is not known: did you mean info?"),
        ("display.mode=win", "--set: display.mode: 'win' is not known: did you mean window?"),
        (
            "classify.labels=people",
            "--set: classify.labels: 'people' is not known: expected one of auto, fer2013",
        ),
        (
            "display.results=r.txt",
            "--set: display.results: expected a file that ends in .jsonl or .csv, found 'r.txt'",
        ),
        (
            "display.record=r.avi",
            "--set: display.record: expected a file that ends in .mkv or .mp4, or a folder, found 'r.avi'",
        ),
        (
            "broker.address=tcp://10.0.0.1:5",
            "broker.address: 'tcp://10.0.0.1:5' can be reached from other machines",
        ),
    ],
)
def test_a_mistake_in_an_assignment_is_named(assignment: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_settings(None, [assignment])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_syntax_error_is_placed(tmp_path: Path) -> None:
    path = write(tmp_path, "[detect]\nworkers = = 3\n")
    with pytest.raises(UserError, match=r"mine\.toml: line 2, column 11: Invalid value"):
        read_settings(path)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("mode = auto", 'mode = "auto"'),
        ("results = out.jsonl  # all of them", 'results = "out.jsonl"'),
        (r"record = C:\out.mkv", r"record = 'C:\out.mkv'"),
    ],
)
def test_missing_quotes_are_named(tmp_path: Path, line: str, hint: str) -> None:
    with pytest.raises(UserError) as told:
        read_settings(write(tmp_path, f"[display]\n{line}\n"))
    assert str(told.value).endswith(f"Invalid value; text needs quotes: {hint}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no configuration file"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(UserError, match="Is a directory"):
        read_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"[log]\nfile = '\xe9'\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_settings(tmp_path / "latin.toml")


def test_the_two_addresses_differ() -> None:
    both = ["broker.address=tcp://localhost:5555", "broker.publish=tcp://127.0.0.1:5555"]
    with pytest.raises(UserError, match="expected another address"):
        read_settings(None, both)


def test_options_override_and_are_checked_again() -> None:
    settings = override(PipelineSettings(), {"capture.sources": ["demo"], "display.mode": "none"}, TABLES)
    assert (settings.of(CaptureSettings).sources, settings.of(DisplaySettings).mode) == (["demo"], "none")
    with pytest.raises(UserError, match=r"display\.record"):
        override(settings, {"display.record": "x.gif"}, TABLES)


def test_a_renamed_setting_still_works_and_the_log_has_its_new_name(caplog: pytest.LogCaptureFixture) -> None:
    settings = read_settings(None, ["capture.file_window=3"])
    assert settings.broker.file_window == 3
    assert caplog.messages == [
        "--set: capture.file_window is named broker.file_window now; the old name works in this release"
    ]
