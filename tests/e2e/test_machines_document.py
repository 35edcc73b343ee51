"""What docs/machines.md tells people to do: its commands and units, with namespaces as the machines."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.common.files import PROJECT
from tests.support.hosts import Host, made, why_not
from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl

DOCUMENT = PROJECT / "docs" / "machines.md"
UNITS = sorted((PROJECT / "docs" / "systemd").glob("*.service"))

Hosts = Callable[..., dict[str, Host]]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Make hosts that have the addresses of the document: 10.0.0.1 and so on."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lambda *names: dict(zip(names, stack.enter_context(made(len(names), "10.0.0")), strict=True))


def commands(heading: str, start_with: str) -> list[list[str]]:
    """Return the words of the commands in a section of the document; continued lines are one."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = "".join(re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).replace("\\\n", "")
    return [shlex.split(line) for line in blocks.splitlines() if line.startswith(start_with)]


def move(keys: Path, place: Path, *secrets: str) -> Path:
    """What `scp` and `rm` do there: a machine gets the broker's public key and secrets of its own."""
    place.mkdir(mode=0o700, parents=True)
    shutil.copy(keys / "broker.public", place)
    for secret in secrets:
        (keys / f"{secret}.secret").rename(place / f"{secret}.secret")
    return place


def all_well(runs: list[Run], results: Path) -> None:
    for run in runs:
        done = run.end()
        assert done.status == 0, done.stderr
        assert done.errors == []
    records = read_jsonl(results)
    assert [record["frame"] for record in records] == list(range(CLIP_FRAMES))
    assert {record["status"] for record in records} == {"ok"}


def test_two_machines(start: Start, quick: list[str], clip: Path, hosts: Hosts, tmp_path: Path) -> None:
    network = hosts("living", "attic")
    living, attic = tmp_path / "living", tmp_path / "attic"
    living.mkdir()
    make, run_living, check, run_attic = commands("Two machines", "python run.py ")
    for command, home in ((make, living), (check, attic)):
        if command is check:
            move(living / "emotions-keys", attic / "emotions-keys", "detect-attic", "supervisor-attic")
        words = [sys.executable, *command[1:]]
        if command is make:
            words = [word.replace("~", str(home)) for word in words]  # as the shell does
        environment = os.environ | {"HOME": str(home)}
        done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "those of supervisor, detect" in done.stdout

    results = tmp_path / "r.jsonl"
    assert run_living[-2:] == ["--source", "0"]
    paced = ["--set", "capture.pace_fps=5", "--results", str(results), "--source", str(clip)]
    main = start(*run_living[2:-2], *quick, *paced, inside=network["living"].inside, HOME=str(living))
    far = start(*run_attic[2:], *quick, inside=network["attic"].inside, HOME=str(attic))
    far.line("works for the broker at tcp://10.0.0.1:5555")
    all_well([main, far], results)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in main.end().stdout


def test_four_machines_by_what_their_units_start(
    start: Start, quick: list[str], clip: Path, hosts: Hosts, tmp_path: Path
) -> None:
    network = hosts("living", "door", "attic", "cellar")
    (install,) = commands("Four machines", "runuser ")
    keys = tmp_path / "living"
    words = install[install.index("run.py") :]
    made = [sys.executable, *[word.replace("/etc/emotions/keys", str(keys)) for word in words]]
    subprocess.run(made, cwd=PROJECT, check=True, capture_output=True, timeout=60)
    for name, role in (("door", "capture"), ("attic", "detect"), ("cellar", "classify")):
        move(keys, tmp_path / name, f"{role}-{name}", f"supervisor-{name}")

    runs = []
    results = tmp_path / "results.jsonl"
    for unit in UNITS:
        name = unit.stem.partition("-")[2]
        (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        python, script, *words = shlex.split(line)
        assert (python, script) == ("/opt/emotions/.venv/bin/python", "run.py")
        here = {"/etc/emotions/keys": tmp_path / name, "/var/lib/emotions": tmp_path, "/dev/video0": clip}
        for there, path in here.items():
            words = [word.replace(there, str(path)) for word in words]
        runs.append(start(*words, *quick, inside=network[name].inside))
    all_well(runs, results)
    assert (tmp_path / "video.mkv").stat().st_size > 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_sound(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze (systemd): units can't be verified")
    copy = tmp_path / unit.name
    text = unit.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/emotions/.venv/bin/python", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert f"systemd/{unit.name}" in DOCUMENT.read_text(encoding="utf-8")
    for line in ("User=emotions", "Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert f"\n{line}\n" in text
