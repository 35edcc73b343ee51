"""Who reads a run and feeds it: another user of the machine, programs with and without keys."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq import auth

from pipeline.common.files import PROJECT
from pipeline.wire.addresses import free_port
from pipeline.wire.keys import make_keys, stage_keys
from stages.stage import ROLES
from tests.support.runs import CLIP_FRAMES, Start, balance, processes_of, read_jsonl, same_but_for_time

LIMIT_MS = 60_000
ROOT = os.name == "posix" and os.geteuid() == 0
"""Only root can act as a second user."""

OTHER_USER = 65_534

# It loads what it needs before it becomes somebody else, who may not be able to read this project.
INTRUDER = f"""
import json, os, socket, sys
import zmq
import pipeline.wire.messages as m
from pipeline.wire.codec import encode
told = json.loads(sys.argv[1])
os.setgroups([]); os.setgid({OTHER_USER}); os.setuid({OTHER_USER})
done = {{}}

def attempt(what, act):
    try:
        done[what] = repr(act())
    except OSError as error:
        done[what] = type(error).__name__

for path in told["closed"]:
    attempt(f"list {{path}}", lambda: os.listdir(path))
    attempt(f"write {{path}}", lambda: open(path + "/detect-2.public", "w"))
for path in told["files"]:
    attempt(f"read {{path}}", lambda: open(path, "rb").read())
for path in told["sockets"]:
    attempt(f"dial {{path}}", lambda: socket.socket(socket.AF_UNIX).connect(path))
for pid in told["pids"]:
    attempt(f"environment of {{pid}}", lambda: open(f"/proc/{{pid}}/environ", "rb").read())
    attempt(f"signal {{pid}}", lambda: os.kill(pid, 9))

lies = [
    m.Hello("display", "display", "x", 1, m.PROTOCOL, 8, wants_pixels=True),
    m.Hello("detect", "detect-9", "y", 1, m.PROTOCOL, 2, fingerprint=""),
    m.Hello("supervisor", "run", "z", 1, m.PROTOCOL),
    m.StopRequest("because"),
    m.Heartbeat(),
]
context = zmq.Context()
heard = 0
sockets = []
for kind, addresses in ((zmq.DEALER, told["work"]), (zmq.SUB, told["results"])):
    for address in addresses:
        for keys in (None, "own"):
            s = context.socket(kind)
            s.linger = 0
            if keys:
                s.curve_publickey, s.curve_secretkey = zmq.curve_keypair()
                s.curve_serverkey = told["public"].encode()
            if kind == zmq.SUB:
                s.subscribe(b"")
            s.connect(address)
            sockets.append(s)
            for lie in lies if kind == zmq.DEALER else []:
                try:
                    s.send_multipart(encode(lie), zmq.NOBLOCK)
                except zmq.Again:
                    pass
heard = sum(s.poll(500) for s in sockets)
context.destroy(0)
print(json.dumps({{"heard": heard, "done": done}}))
"""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can enter, as a home often is: what is closed is not so because of it."""
    place = Path(tempfile.mkdtemp(prefix="u-", dir="/tmp" if os.name == "posix" else None))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    make_keys(directory, ROLES, ["detect-attic", "supervisor-attic"])
    for name in ("detect-attic", "supervisor-attic"):
        (directory / f"{name}.secret").rename(directory / f"{name}.kept")
    return directory


def machine(tmp_path: Path, keys: Path, name: str, *files: str) -> list[str]:
    """Return the option that names the keys of another machine, which has only those files."""
    directory = tmp_path / name
    directory.mkdir(mode=0o700)
    for file in ("broker.public", *files):
        there = keys / file
        shutil.copy(there if there.exists() else there.with_suffix(".kept"), directory / file)
    return ["--set", f"security.keys={directory}"]


def intrude(**told: Any) -> dict[str, str]:
    """Try everything as the other user; return what came of each attempt at files, sockets and processes."""
    empty: dict[str, Any] = {key: [] for key in ("closed", "files", "sockets", "pids", "work", "results")}
    command = [sys.executable, "-c", INTRUDER, json.dumps(empty | told)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["heard"] == 0
    attempts: dict[str, str] = answer["done"]
    assert attempts, "nothing was tried"
    return attempts


@pytest.mark.skipif(not ROOT, reason="only root can act as a second user")
def test_another_user_does_not_reach_a_run_over_ipc(
    start: Start, quick: list[str], clip: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Its directory is closed: what is in it can't even be named."""
    results = tmp_path / "r.jsonl"
    paced = ["--set", "capture.pace_fps=10"]
    run = start(*quick, *paced, "--source", clip, "--results", results)
    run.place.chmod(0o755)  # as /tmp is: the run's own directory must do
    where = run.line(r"results are published at ipc://(\S+)")[1]
    run.until_records(results, 5)
    directory = Path(where).parent
    sockets = [str(path) for path in directory.iterdir()]
    assert len(sockets) >= 2
    attempts = intrude(
        closed=[str(directory)], sockets=sockets, pids=[*processes_of(run.place), run.process.pid],
        work=[f"ipc://{path}" for path in sockets if path != where], results=[f"ipc://{where}"],
        public="a" * 40,
    )  # fmt: skip
    assert set(attempts.values()) == {"PermissionError"}, attempts
    done = run.end()
    assert done.status == 0 and done.errors == []
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout
    same_but_for_time(read_jsonl(results), undisturbed)


def test_another_user_does_not_reach_a_run_over_the_loopback(
    start: Start,
    quick: list[str],
    clip: Path,
    undisturbed: list[dict[str, Any]],
    open_place: Path,
    tmp_path: Path,
) -> None:
    """A program of this user subscribes with the key that the run names; who has none is in the log."""
    address, results = f"tcp://127.0.0.1:{free_port()}", tmp_path / "r.jsonl"
    run = start(
        *quick, "--broker", address, "--source", clip, "--results", results, "--set", "capture.pace_fps=10",
        XDG_STATE_HOME=str(open_place),
    )  # fmt: skip
    keys = Path(run.line(r"keys for other programs of this user.*: (\S+)$")[1])
    where = run.line(r"results are published at (\S+)")[1]
    with zmq.Context() as context, context.socket(zmq.SUB) as friend, context.socket(zmq.SUB) as spy:
        friend.curve_publickey, friend.curve_secretkey = auth.load_certificate(keys / "subscriber.secret")
        friend.curve_serverkey, _ = auth.load_certificate(keys / "broker.public")
        for subscriber in (friend, spy):
            subscriber.linger = 0
            subscriber.subscribe(b"")
            subscriber.connect(where)
        if ROOT:
            attempts = intrude(
                closed=[str(keys)], files=[str(path) for path in keys.iterdir()],
                work=[address], results=[where], public=stage_keys(keys, "supervisor").broker.decode(),
            )  # fmt: skip
            assert set(attempts.values()) == {"PermissionError"}, attempts
        published = []
        while friend.poll(LIMIT_MS):
            published.append(json.loads(friend.recv()))
            if published[-1]["frame"] == CLIP_FRAMES - 1:
                break
        assert not spy.poll(0)
    done = run.end()
    assert done.status == 0 and done.errors == []
    said = "\n".join(done.stderr)
    assert "it uses no key" in said or "without showing a key" in said
    assert not ROOT or "refused a peer at 127.0.0.1: its key is not in the list" in said
    records = read_jsonl(results)
    assert published and published == records[-len(published) :]  # from its subscription on
    same_but_for_time(records, undisturbed)
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


def test_removed_key_is_refused_by_the_next_broker(
    start: Start,
    quick: list[str],
    clip: Path,
    keys: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    """Machines with keys of their own; one's is removed, the broker dies: nothing is lost without it."""
    address, results = f"tcp://127.0.0.1:{free_port()}", tmp_path / "r.jsonl"
    one = ["--set", "detect.workers=1", "--set", "capture.pace_fps=20"]
    there = [*quick, "--broker", address, *one]
    main = start(
        *there, "--set", f"security.keys={keys}", "--source", clip, "--results", results,
    )  # fmt: skip
    attic_keys = machine(tmp_path, keys, "attic", "detect-attic.secret", "supervisor.secret")
    attic = start(*there, *attic_keys, "--only", "detect")
    attic.line("works for the broker at ")
    main.until_records(results, 10)
    (keys / "detect-attic.public").unlink()
    os.kill(main.pid("broker"), signal.SIGKILL)
    done = attic.end()
    assert done.status == 1
    assert len(done.errors) == 1
    assert "the broker refuses the key 'detect-attic'" in done.errors[0]
    done = main.end()
    assert done.status == 0 and done.errors == []
    assert any("its key is not in the list; public key" in line for line in done.stderr)
    same_but_for_time(read_jsonl(results), undisturbed)
