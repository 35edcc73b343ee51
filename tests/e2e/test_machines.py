"""One run on several hosts, which have addresses and keys of their own, and what a network does to it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.wire.addresses import free_port
from pipeline.wire.keys import make_keys, stage_keys
from stages.stage import ROLES
from tests.support.hosts import Host, made, why_not
from tests.support.proxy import Proxy
from tests.support.runs import CLIP_FRAMES, Run, Start, balance, read_jsonl, same_but_for_time

PORT = 5555
RAW = ["--set", "network.encoding=raw"]
"""With JPEG the boxes differ by a little from those of a run on one machine."""

STRANGER = """
import json, sys, zmq
address, results, mechanism, public = sys.argv[1:]
with zmq.Context() as context, context.socket(zmq.DEALER) as work, context.socket(zmq.SUB) as spy:
    for socket, where in ((work, address), (spy, results)):
        socket.linger = 0
        if mechanism == "plain":
            socket.plain_username, socket.plain_password = b"detect", b"please"
        if mechanism in ("own", "other"):
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
            socket.curve_serverkey = public.encode() if mechanism == "own" else zmq.curve_keypair()[0]
        if socket is spy:
            socket.subscribe(b"")
        socket.connect(where)
    work.send(b"let me in", zmq.NOBLOCK)
    heard = [socket.poll(3000) for socket in (work, spy)]
    print(json.dumps(heard))
"""

Machine = Callable[..., list[str]]
Network = dict[str, Host]


@pytest.fixture
def network() -> Iterator[Network]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with made(4) as machines:
        yield dict(zip(("living", "attic", "cellar", "street"), machines, strict=True))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Where all keys were made: the directory of the machine that the broker is on."""
    directory = tmp_path / "keys"
    make_keys(directory, ROLES, ["detect-attic", "supervisor-attic", "classify-cellar", "supervisor-cellar"])
    return directory


@pytest.fixture
def machine(tmp_path: Path, keys: Path) -> Machine:
    """Give a machine a directory with the secrets of its own alone; return the option that names it."""

    def give(name: str, *secrets: str) -> list[str]:
        directory = tmp_path / name
        directory.mkdir(mode=0o700)
        shutil.copy(keys / "broker.public", directory)
        for secret in secrets:
            (keys / f"{secret}.secret").rename(directory / f"{secret}.secret")
        return ["--set", f"security.keys={directory}"]

    return give


@pytest.fixture
def hosts(
    start: Start, quick: list[str], network: Network, keys: Path, machine: Machine
) -> Callable[..., tuple[Run, Run, Run]]:
    """Start capture, broker and display on one host, detect on another, classify on a third."""

    def begin(*arguments: object) -> tuple[Run, Run, Run]:
        there = [
            *quick,
            "--broker",
            f"tcp://{network['living'].address}:{PORT}",
            "--set",
            "detect.workers=1",
        ]
        attic = machine("attic", "detect-attic", "supervisor-attic")
        cellar = machine("cellar", "classify-cellar", "supervisor-cellar")
        main = ["--set", f"security.keys={keys}", "--only", "broker,capture,display"]
        return (
            start(*there, *main, *arguments, inside=network["living"].inside),
            start(*there, *attic, "--only", "detect", inside=network["attic"].inside),
            start(*there, *cellar, "--only", "classify", inside=network["cellar"].inside),
        )

    return begin


def all_well(runs: tuple[Run, ...], frames: int = CLIP_FRAMES) -> None:
    for run in runs:
        done = run.end()
        assert done.status == 0, done.stderr
        assert done.errors == []
    assert f"clip.mp4: {balance(frames, frames)}" in runs[0].end().stdout


def test_three_hosts_with_strangers_and_broken_cables(
    hosts: Callable[..., tuple[Run, Run, Run]],
    network: Network,
    keys: Path,
    clip: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The records are those of one machine.

    Programs without a key get nothing, and are in the log. A host that was cut off takes part again.
    """
    results = tmp_path / "r.jsonl"
    runs = hosts(*RAW, "--set", "capture.pace_fps=4", "--source", clip, "--results", results)
    runs[0].line("results are published at ")
    runs[0].until_records(results, 5)
    strangers_try(network, keys)
    for name, child in (("attic", "detect-1"), ("cellar", "classify-1")):
        network[name].cut()
        runs[0].line(rf"{child}@\S+ timed out: silent|lost with it: {child}@")
        count = len(read_jsonl(results))
        assert count < CLIP_FRAMES, "the run was over too soon"
        network[name].join()
        runs[0].until_records(results, min(count + 10, CLIP_FRAMES))
    all_well(runs)
    same_but_for_time(read_jsonl(results), undisturbed)
    said = "\n".join(runs[0].end().stderr)
    for child in ("detect-1", "classify-1"):
        assert len(re.findall(rf"{child}@\S+ has joined", said)) == 2
    street = network["street"].address
    assert f"refused a peer at {street}: its key is not in the list; public key" in said
    for reason in ("it uses no key|without showing a key", "it has another broker's public key"):
        assert re.search(rf"refused a peer at ({street}:\d+|an unknown address): .*({reason})", said), said


def strangers_try(network: Network, keys: Path) -> None:
    """Four programs on the fourth host send to the broker and listen to the results: in vain."""
    where = [f"tcp://{network['living'].address}:{port}" for port in (PORT, PORT + 1)]
    public = stage_keys(keys, "subscriber").broker.decode()
    strangers = [
        subprocess.Popen(
            [*network["street"].inside, sys.executable, "-c", STRANGER, *where, mechanism, public],
            stdout=subprocess.PIPE,
            text=True,
        )
        for mechanism in ("null", "plain", "own", "other")
    ]
    for stranger in strangers:
        assert json.loads(stranger.communicate(timeout=60)[0]) == [0, 0]


@pytest.fixture
def halves(
    start: Start, quick: list[str], keys: Path, machine: Machine, clip: Path, tmp_path: Path
) -> Callable[..., tuple[Run, Run]]:
    """Start a run in two parts, one of them behind a proxy; that with capture comes first."""

    def begin(port: int, proxy: Proxy, far_roles: str, results: Path) -> tuple[Run, Run]:
        machine("cellar", "classify-cellar", "supervisor-cellar")  # which has no part in this
        films = far_roles != "detect"
        attic = machine("attic", *(["capture", "display"] if films else ["detect-attic"]), "supervisor-attic")
        if films:
            machine("nobody", "detect-attic")
        ends = ["--source", clip, "--results", results]
        there = [*quick, "--set", "detect.workers=1", "--set", "capture.pace_fps=10", *RAW]
        here = [*there, "--set", f"security.keys={keys}", "--broker", f"tcp://127.0.0.1:{port}"]
        far = [*there, *attic, "--broker", f"tcp://127.0.0.1:{proxy.port}", "--only", far_roles]
        near_roles = "broker,detect,classify" if films else "broker,capture,display,classify"
        runs = [
            start(*here, "--only", near_roles, *([] if films else ends)),
            start(*far, *(ends if films else [])),
        ]
        return (runs[1], runs[0]) if films else (runs[0], runs[1])

    return begin


@pytest.mark.parametrize("far_roles", ["detect", "capture,display"])
def test_connections_stand_still_and_break(
    halves: Callable[..., tuple[Run, Run]],
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
    far_roles: str,
) -> None:
    """To detect there and back takes 0.2 s, and stops for a while; then connections break."""
    results, port = tmp_path / "r.jsonl", free_port()
    with Proxy(port, delay_s=0.1 if far_roles == "detect" else 0.01) as proxy:
        runs = halves(port, proxy, far_roles, results)
        runs[0].until_records(results, 5)
        if far_roles == "detect":
            proxy.stall()
            runs[0].line("detect-1 timed out: silent|lost with it: detect-1")
            proxy.flow()
        far_ends = 1 + len(far_roles.split(","))  # run.py's own among them
        for _ in range(5):
            count = len(results.read_bytes().splitlines())
            runs[0].until(lambda: proxy.connections >= far_ends)
            proxy.cut()
            runs[0].until_records(results, min(count + 3, CLIP_FRAMES))
        for run in runs:
            done = run.end()
            assert done.status == 0, done.stderr
            assert done.errors == []
    same_but_for_time(read_jsonl(results), undisturbed)
