"""What is wrong before any process starts: one line on stderr, status 2, nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from pipeline.cli.main import main
from pipeline.wire.keys import make_keys
from stages.stage import ROLES
from tests.support.media import noise, write_clip
from tests.support.models import save_onnx

NOTES = ("detector: ", "emotion model: ", "no screen here (DISPLAY is not set): ")
"""How far the run had come: what may stand beside the error."""

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", {"fer2013": 0})


@pytest.fixture
def refused(model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command line that is refused; return its line."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> str:
        quick = ["--set", f"classify.model={model}", "--set", "detect.model=haar", "--display", "none"]
        of_display = "--only" not in words or "display" in words
        try:
            status: object = main([*quick[: 6 if of_display else 4], *map(str, words)])
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        assert (status, out) == (2, "")
        lines = [line for line in err.splitlines() if not any(note in line for note in NOTES)]
        assert len(lines) == 1, err
        assert '"level": "error"' in lines[0] if "--log-json" in words else "error: " in lines[0]
        return lines[0]

    return run


WEB = ["--source", "demo", "--display", "web", "--set"]
DETECT = ["--only", "detect", "--broker"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "nowhere.mp4"], ["nowhere.mp4", "no such file or folder"]),
        (["--sorce", "demo"], ["--sorce", "did you mean --source?"]),
        ([*WEB, "web.host=0.0.0.0"], ["web.host", "web.token", "secrets.token_urlsafe"]),
        ([*WEB, "web.host=here"], ["web.host", "'here'", "by number"]),
        ([*WEB, "web.token=short"], ["web.token", "16", "found 5"]),
        ([*WEB, "web.key=k.pem"], ["web.certificate", "both or neither"]),
        (["--display", "window"], ["display.mode", "DISPLAY is not set", "--display none"]),
        (["--set", "detect.worker=2"], ["detect.worker", "did you mean detect.workers?"]),
        (["--set", "detect.workers=two"], ["detect.workers", "a whole number", "'two'"]),
        (["--set", "classify.model=nowhere.onnx"], ["nowhere.onnx", "no emotion model"]),
        (["--set", "classify.labels=consensus"], ["classify.labels", "fer2013 alone", "=fer2013"]),
        (["--set", "detect.model=nowhere.onnx"], ["nowhere.onnx", "detect.model", "yunet, haar"]),
        (["--broker", "tcp://192.168.0.1:5555"], ["192.168.0.1", "needs keys"]),
        ([*DETECT, "tcp://0.0.0.0:5555"], ["0.0.0.0", "needs keys"]),
        (["--only", "detekt", "--broker", "tcp://127.0.0.1:5555"], ["did you mean detect?"]),
        (["--only", "detect"], ["--broker"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_option_or_setting_is_wrong(refused: Refused, arguments: list[str], said: list[str]) -> None:
    line = refused(*arguments)
    assert all(part in line for part in said), line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[detect]\nmax_sid = 100\n", ["max_sid", "max_side"]),
        ("[capture]\nfile_window = 'big'\n", ["capture.file_window", "a whole number", "'big'"]),
    ],
)
def test_settings_file_is_wrong(refused: Refused, tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    line = refused("--config", path)
    assert all(part in line for part in ["mine.toml", *said]), line


def test_model_has_no_card(refused: Refused, model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copyfile(model, tmp_path / "lonely.onnx"))
    assert "lonely.onnx has no card" in refused("--source", "demo", "--set", f"classify.model={copy}")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder beside a video and another folder."""
    for folder in ("faces", "more"):
        (tmp_path / folder).mkdir()
        for number in (1, 2, 3):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), noise(number, 8, 8))
    write_clip(tmp_path / "clip.mkv", [noise(0, 64, 48)])
    return tmp_path


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("faces/3.png", "faces"),
        ("faces/*.png", "faces/"),
        ("faces", "faces"),
        ("*/*.png", "."),
        ("file://{}/clip.mkv", "clip.mkv"),
        ("*.mkv", "clip.mkv"),
        ("clip.mkv#0", "clip.mkv"),
    ],
)
def test_recording_would_overwrite_a_source(
    refused: Refused, pictures: Path, source: str, target: str
) -> None:
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    source = source.format(pictures) if source.startswith("file") else str(pictures / source)
    assert "source" in refused("--source", source, "--record", pictures / target)
    assert {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()} == before


def test_json_log_has_the_error_too(refused: Refused) -> None:
    line = refused("--source", "none.mp4", "--log-json")
    assert "no such file" in json.loads(line)["message"]


def test_pattern_without_quotes(refused: Refused, pictures: Path) -> None:
    faces = pictures / "faces"
    assert "a pattern needs quotes" in refused("--source", faces / "1.png", faces / "2.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda keys: shutil.rmtree(keys), "no directory"),
        (lambda keys: keys.chmod(0o755), "chmod 700"),
        (lambda keys: (keys / "detect.secret").chmod(0o644), "chmod 600"),
        (lambda keys: (keys / "supervisor.secret").unlink(), "has no supervisor.secret"),
        (lambda keys: shutil.copy(keys / "detect.secret", keys / "detect-2.secret"), "leave only the one"),
        (lambda keys: (keys / "broker.public").unlink(), "broker.public; copy it there"),
        (lambda keys: (keys / "broker.public").write_bytes(b""), "broker.public is damaged"),
    ],
    ids=["directory", "open directory", "open secret", "no secret", "two secrets", "no broker", "damaged"],
)
def test_keys_are_wrong(refused: Refused, tmp_path: Path, change: Any, said: str) -> None:
    keys = tmp_path / "keys"
    make_keys(keys, ROLES, [])
    change(keys)
    assert said in refused(*DETECT, "tcp://192.0.2.1:5555", "--set", f"security.keys={keys}")
