"""The recipes of docs/recipes.md, run as they stand there."""

import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import pytest

import emotions
from pipeline.common.files import PROJECT, python_path
from stages.capture.sources.demo import _portrait
from tests.support.runs import LIMIT_S

Blocks = dict[str, list[tuple[str, str]]]


def recipes() -> Blocks:
    """Return language and text of each block that is to be run, by heading."""
    found: Blocks = {}
    for section in (PROJECT / "docs" / "recipes.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = re.findall(r"^```(sh|python|toml)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        found[section.partition("\n")[0]] = blocks
    return found


@pytest.fixture(scope="module")
def folder(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the recipes are run in, one after the other."""
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copyfile(clip, folder / "clip.mp4")
    (folder / "pictures").mkdir()
    for name in ("portrait.jpg", "pictures/one.jpg", "pictures/two.jpg"):
        cv2.imwrite(str(folder / name), _portrait())
    return folder


@pytest.fixture
def variables(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PYTHONPATH": python_path(), "MPLBACKEND": "agg"}


def follow(heading: str, folder: Path, variables: dict[str, str]) -> str:
    """Run the blocks of a recipe; return what they print."""
    said = ""
    for language, text in recipes()[heading]:
        lines = text.splitlines() if language == "sh" else [text]
        for line in lines:
            command = [sys.executable, "-W", "error", "-c", line]
            if language == "sh":
                words = shlex.split(line)
                assert words[:2] == ["python", "run.py"]
                command = [sys.executable, str(PROJECT / "run.py"), *words[2:]]
            done = subprocess.run(
                command, cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT_S
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            said += done.stdout
    return said


@pytest.mark.parametrize(
    ("heading", "made", "said"),
    [
        ("My own pictures", ["faces.csv", "drawn/one.jpg", "drawn/two.jpg"], "captured 2 = ok 2"),
        ("A notebook", [], ""),
        ("What a video shows, as a page", ["out.jsonl", "report.html"], "frames"),
        ("A plot of my own", ["happy.png"], ""),
        ("React to emotions", [], "three frames with a neutral face"),
        ("My own face detector", [], "neutral"),
    ],
)
def test_recipe(heading: str, made: list[str], said: str, folder: Path, variables: dict[str, str]) -> None:
    if heading == "A plot of my own" and not (folder / "out.jsonl").exists():  # run alone
        follow("What a video shows, as a page", folder, variables)
    if heading == "My own pictures":
        shutil.rmtree(folder / "drawn", ignore_errors=True)
    assert said in follow(heading, folder, variables)
    assert all((folder / name).stat().st_size for name in made)


def test_words_of_my_own_are_settings(folder: Path, variables: dict[str, str]) -> None:
    ((_, text),) = recipes()["Words of my own"]
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    words = [sys.executable, str(PROJECT / "run.py"), "check", "--config", str(folder / "mine.toml")]
    done = subprocess.run(
        [*words, "--display", "none"], env=variables, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def server(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """The address of the web app."""
    ((_, text),) = recipes()["A web app"]
    process = subprocess.Popen(
        [sys.executable, "-c", text, "0"],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    match = re.fullmatch(rb"listening at port (\d+)\n", process.stdout.readline())
    assert match is not None
    yield f"http://127.0.0.1:{int(match[1])}"
    process.kill()
    process.wait(LIMIT_S)
    process.stdout.close()


def test_the_web_app_answers(server: str, folder: Path) -> None:
    picture = (folder / "portrait.jpg").read_bytes()
    with urllib.request.urlopen(urllib.request.Request(server, picture), timeout=LIMIT_S) as answer:
        record = msgspec.json.decode(answer.read(), type=emotions.Record)
    assert len(record.faces) == 1
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(server, b"no picture"), timeout=LIMIT_S)
    with refused.value:
        assert refused.value.code == 400


def test_every_recipe_is_known() -> None:
    """A new one gets a test here, or says that it has none."""
    tested = {
        "My own pictures",
        "A notebook",
        "What a video shows, as a page",
        "A plot of my own",
        "React to emotions",
        "My own face detector",
        "Words of my own",
        "A web app",
    }
    assert {heading for heading, blocks in recipes().items() if blocks} == tested
