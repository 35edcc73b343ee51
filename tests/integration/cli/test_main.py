"""The command line reads, hands over, and says in one line what it does not understand."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.cli.main import ROLES, main
from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.config.schema import PipelineSettings
from stages.capture.spec import CaptureSettings
from stages.detect.spec import DetectSettings
from stages.display.spec import DisplaySettings
from stages.stage import TABLES
from tests.support.bench_runs import bench_options


class Handed:
    """Takes the place of what the command line hands over to, and keeps what it was handed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: str, function: str, status: int = 0) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.error: UserError | KeyboardInterrupt | None = None
        self.status = status
        stand_in = ModuleType(module)
        setattr(stand_in, function, self)
        monkeypatch.setitem(sys.modules, module, stand_in)

    def __call__(self, *arguments: Any) -> int:
        self.arguments = arguments
        if self.error:
            raise self.error
        return self.status


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Handed:
    return Handed(monkeypatch, "pipeline.cli.resolve", "run", status=7)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line on stderr of a command line that is refused with status 2."""
    try:
        status: object = main(words)
    except SystemExit as end:
        status = end.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_nothing_said_runs_everything_with_the_defaults(supervisor: Handed) -> None:
    assert main([]) == 7
    settings, only = supervisor.arguments
    assert all(settings.of(table) == table() for table in TABLES.values())
    assert only == set(ROLES)


def test_options_override_the_settings(supervisor: Handed, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[capture]\nsources = ['a']\n[detect]\nworkers = 2\n[display]\nresults = 'r.csv'\n")
    words = ["--config", str(config), "--source", "0", "--source", "demo:8", "--display", "none"]
    words += ["--start", "1", "--duration", "0.4", "--cropped"]
    main([*words, "--record", "v.mkv", "--set", "detect.threads=2", "--set", "log.level=debug"])
    settings, here = supervisor.arguments
    capture = settings.of(CaptureSettings)
    assert (capture.sources, capture.start_s, capture.duration_s) == (["0", "demo:8"], 1.0, 0.4)
    assert settings.of(DetectSettings).model == "cropped"
    assert (
        settings.of(DisplaySettings).mode,
        settings.of(DisplaySettings).results,
        settings.of(DisplaySettings).record,
    ) == (
        "none",
        "r.csv",
        "v.mkv",
    )
    assert (settings.of(DetectSettings).workers, settings.of(DetectSettings).threads, settings.log.level) == (
        2,
        2,
        "debug",
    )
    assert here == set(ROLES)


def test_only_runs_some_roles_with_the_broker_named(supervisor: Handed) -> None:
    main(["--only", "detect, classify", "--broker", "tcp://127.0.0.1:5555"])
    settings, here = supervisor.arguments
    assert here == {"detect", "classify"}
    assert settings.broker.address == "tcp://127.0.0.1:5555"


def test_check_gets_the_same_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check = Handed(monkeypatch, "pipeline.cli.check", "run_check", status=2)
    config = tmp_path / "c.toml"
    config.touch()
    assert main(["check", "--source", "demo", "--config", str(config)]) == 2
    settings, here, named, cameras = check.arguments
    assert (settings.of(CaptureSettings).sources, named, cameras) == (["demo"], config, False)
    assert here == set(ROLES)
    main(["check", "--cameras"])
    assert check.arguments[3]


def test_quiet_and_json_are_settings_of_the_log(supervisor: Handed) -> None:
    main(["--quiet", "--log-json"])
    log = supervisor.arguments[0].log
    assert (log.level, log.status, log.json) == ("warning", False, True)
    main(["--quiet", "--set", "log.level=error"])
    assert supervisor.arguments[0].log.level == "error"


def test_bench_hands_over_what_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[tuple[PipelineSettings, Namespace]] = []
    monkeypatch.setattr("bench.command.run_bench", lambda *arguments: handed.append(arguments) or 0)
    assert main(["bench"]) == 0
    words = ["--source", "x", "--frames", "9", "--runs", "2", "--json", "j", "--plots", "p"]
    assert main(["bench", *words, "--without-tutorial"]) == 0
    assert all(settings.of(table) == table() for settings, _ in handed for table in TABLES.values())
    plain, full = (vars(options) for _, options in handed)
    assert {**plain, **vars(bench_options())} == plain
    expected = bench_options(
        source="x", frames=9, runs=2, json=Path("j"), plots=Path("p"), without_tutorial=True
    )
    assert {**full, **vars(expected)} == full


def test_keys_are_made_where_they_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "keys"
    assert main(["keys", str(directory)]) == 0
    assert main(["keys", str(directory), "detect-attic"]) == 0
    said = capsys.readouterr()
    assert "made: detect-attic\nkept: broker, web, display, detect" in said.out
    assert f"--set security.keys={directory}" in said.out
    for path in directory.glob("*.secret"):
        secret = path.read_text().rpartition('"')[0].rpartition('"')[2]
        assert len(secret) == 40
        assert secret not in said.out + said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sorce", "0"], "unknown option '--sorce': did you mean --source?"),
        (["--sorce=0"], "unknown option '--sorce': did you mean --source?"),
        (["--sour", "0"], "unknown option '--sour': did you mean --source?"),
        (["chek"], "unknown command 'chek': did you mean check?"),
        (
            ["clip.mp4"],
            "unknown command 'clip.mp4': expected one of check, bench, keys, report; a source needs",
        ),
        (["--display", "none", "check"], "unknown argument 'check': a command comes first"),
        (["--source"], "argument --source: expected one argument"),
        (["--display", "windw"], "argument --display: invalid choice: 'windw'"),
        (["bench", "--runs", "0"], "argument --runs: expected a whole number of at least 1, found '0'"),
        (["bench", "--display", "none"], "unknown option '--display'"),
        (["keys"], "the following arguments are required: DIR"),
        (["--only", "detect"], "--only needs --broker ADDRESS"),
        (
            ["--engine", "ray", "--only", "detect"],
            "--only can't be used with --engine ray",
        ),
        (["--only", "detct", "--broker", "x"], "--only: unknown stage 'detct': did you mean detect?"),
        (["--only", ",", "--broker", "x"], "--only: expected some of"),
        (["--only", "detect", "--broker", "ipc://x", "--source", "0"], "--source belongs to capture"),
        (["--only", "detect", "--broker", "ipc://x", "--results", "r.csv"], "--results belongs to display"),
        (
            ["check", "--only", "capture", "--broker", "ipc://x", "--display", "none"],
            "--display belongs to display",
        ),
    ],
)
def test_a_usage_error_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    line = refused(capsys, *words)
    assert line.startswith("run.py: error: ")
    assert message in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "detect.modl=x"], "--set: unknown key detect.modl: did you mean detect.model?"),
        (["--config", "none.toml"], "no configuration file none.toml"),
        (
            ["--broker", "tcp://10.0.0.1:5555"],
            "needs keys; make them with: python run.py keys DIR",
        ),
        (
            ["--set", "broker.publish=tcp://0.0.0.0:5556"],
            "broker.publish: 'tcp://0.0.0.0:5556' can be",
        ),
        (["--set", "broker.publish=ipc:///usr/results"], "/usr must be yours and closed to others"),
        (["--broker", "tcp://attic:5555", "--set", "security.keys=k"], "by number, or tcp://0.0.0.0:PORT"),
        (
            ["--only", "detect", "--broker", "tcp://0.0.0.0:5555", "--set", "security.keys=k"],
            "names no machine",
        ),
        (["keys", "/usr"], "/usr is open to other users; close it, or take another"),
        (["keys", "/proc/x/keys"], "/proc/x/keys can't be written"),
        (["keys", "none", "kitchen"], "expected STAGE or STAGE-LABEL"),
        (["--broker", "ipc:///usr/broker"], "/usr must be yours and closed to others"),
    ],
)
def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    line = refused(capsys, *words)
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("option", ["--record", "--results"])
def test_an_output_never_overwrites_a_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    clip = tmp_path / ("clip.mp4" if option == "--record" else "clip.csv")
    clip.write_bytes(b"precious")
    other_name = f"{tmp_path}/./{clip.name}"
    address = "rtsp://camera/" + "token" * 100  # longer than any file's name
    line = refused(capsys, "--source", address, "--source", str(clip), option, other_name)
    assert f"{other_name} is a source of this run" in line
    assert clip.read_bytes() == b"precious"


def test_what_the_run_finds_wrong_is_one_line(supervisor: Handed, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor.error = UserError("no file clip.mp4")
    assert refused(capsys) == "error: no file clip.mp4\n"


def test_an_interrupt_is_no_traceback(supervisor: Handed) -> None:
    supervisor.error = KeyboardInterrupt()
    assert main([]) == 130


def test_help_is_fast_because_nothing_heavy_is_loaded() -> None:
    """Neither help nor check loads what takes seconds; the check of the real program, in its own process."""
    code = (
        "import sys; from pipeline.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted(set('tensorflow keras cv2 zmq rich'.split()) & set(sys.modules)), file=sys.stderr)"
    )
    for words, loaded in ((["--help"], "[]\n"), (["check"], "['rich']\n")):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True, timeout=60
        )
        assert done.stderr == loaded
        assert done.stdout


def test_run_py_is_the_program() -> None:
    run = [sys.executable, str(PROJECT / "run.py")]
    done = subprocess.run([*run, "chek"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("run.py: error: unknown command 'chek'")
