"""Runs over tcp: keys that are made by themselves, keys that people make, and who is refused."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq import auth

from pipeline.wire.addresses import free_port
from pipeline.wire.keys import make_keys
from stages.stage import ROLES
from tests.support.runs import CLIP_FRAMES, Start, balance, read_jsonl, same_but_for_time

LIMIT_MS = 60_000


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


@pytest.mark.long
def test_the_loopback_needs_no_configuration_and_lets_no_stranger_read(
    start: Start, quick: list[str], clip: Path, tmp_path: Path
) -> None:
    """A program of this user subscribes with the key that lies where the run says; no other can."""
    address, results = f"tcp://127.0.0.1:{free_port()}", tmp_path / "r.jsonl"
    run = start(
        *quick, "--broker", address, "--source", clip, "--results", results, "--set", "capture.pace_fps=15"
    )
    keys = Path(run.line(r"keys for other programs of this user.*: (\S+)$")[1])
    where = run.line(r"results are published at (\S+)")[1]
    with zmq.Context() as context, context.socket(zmq.SUB) as friend, context.socket(zmq.SUB) as spy:
        friend.curve_publickey, friend.curve_secretkey = auth.load_certificate(keys / "subscriber.secret")
        friend.curve_serverkey, _ = auth.load_certificate(keys / "broker.public")
        for subscriber in (friend, spy):
            subscriber.linger = 0
            subscriber.subscribe(b"")
            subscriber.connect(where)
        published = []
        while friend.poll(LIMIT_MS):
            published.append(json.loads(friend.recv()))
            if published[-1]["frame"] == CLIP_FRAMES - 1:
                break
        assert not spy.poll(0)
    run.line(r"broker: refused a peer at 127.0.0.1:\d+: it uses no key|without showing a key")
    done = run.end()
    assert done.status == 0 and done.errors == []
    assert published and published == read_jsonl(results)[-len(published) :]  # from its subscription on
    assert f"clip.mp4: {balance(CLIP_FRAMES, CLIP_FRAMES)}" in done.stdout


@pytest.mark.long
def test_a_key_taken_out_of_the_list_is_refused_by_the_next_broker(
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


def test_a_key_that_is_not_in_the_list(start: Start, quick: list[str], keys: Path, tmp_path: Path) -> None:
    """Neither a stage's nor run.py's own: one line and status 2."""
    (keys / "supervisor-attic.public").unlink()
    there = [*quick, "--broker", f"tcp://127.0.0.1:{free_port()}"]
    broker = start(*there, "--set", f"security.keys={keys}", "--only", "broker")
    broker.line("results are published at ")
    attic = machine(tmp_path, keys, "attic", "detect-attic.secret", "supervisor-attic.secret")
    done = start(*there, *attic, "--only", "detect").end()
    assert done.status == 2
    assert len(done.errors) == 1
    assert (
        "the broker refuses the key 'supervisor-attic': supervisor-attic.public must lie in" in done.errors[0]
    )
    broker.line("refused a peer at 127.0.0.1: its key is not in the list; public key")
    broker.signal(15)
    assert broker.end().status == 143


def test_another_brokers_key_is_told_once_and_tried_again(
    start: Start, quick: list[str], keys: Path, tmp_path: Path
) -> None:
    there = [*quick, "--broker", f"tcp://127.0.0.1:{free_port()}"]
    others = tmp_path / "others"
    make_keys(others, ROLES)
    stage = start(*there, "--set", f"security.keys={others}", "--only", "detect")
    stage.line("works for the broker at ")
    broker = start(*there, "--set", f"security.keys={keys}", "--only", "broker")
    stage.line(rf"broker key mismatch \(expected {others}/broker.public\); retrying")
    broker.line("refused a peer at .*: it has another broker's public key")
    for run in (stage, broker):
        run.signal(15)
        done = run.end()
        assert done.status == 143 and done.errors == []
    assert sum("broker key mismatch" in line for line in stage.end().stderr) == 1


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
def test_keys_that_are_not_right_are_one_line_at_the_start(
    start: Start, quick: list[str], keys: Path, change: Any, said: str
) -> None:
    change(keys)
    there = ["--broker", "tcp://192.0.2.1:5555", "--set", f"security.keys={keys}"]
    done = start(*quick, *there, "--only", "detect").end()
    assert done.status == 2
    assert len(done.stderr) <= 2 and len(done.errors) == 1
    assert said in done.errors[0]
