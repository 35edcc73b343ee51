"""Key files: made closed, never overwritten, and refused when others could have read them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.wire.keys import (
    broker_keys,
    check_keys,
    make_keys,
    stage_keys,
    user_directory,
)
from stages.stage import ROLES

DEFAULT_NAMES = ("broker", *ROLES, "supervisor", "subscriber")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "keys"
    make_keys(directory, ROLES)
    return directory


def test_pairs_for_every_part_of_a_run(keys: Path) -> None:
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()}
    assert files == {f"{name}.{half}": 0o600 for name in DEFAULT_NAMES for half in ("public", "secret")}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    peers = broker_keys(keys).peers
    assert sorted(peers.values()) == sorted(set(DEFAULT_NAMES) - {"broker"})
    for name in DEFAULT_NAMES[1:]:
        mine = stage_keys(keys, name)
        assert peers[mine.public.decode()] == name
        assert zmq.curve_public(mine.secret) == mine.public
        assert mine.broker == zmq.curve_public(broker_keys(keys).secret)


def test_what_is_there_is_kept_even_half_a_pair(keys: Path) -> None:
    (keys / "detect.secret").unlink()  # on another machine by now
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    made, kept = make_keys(keys, ROLES, ["detect-attic", "capture"])
    assert made == ["detect-attic"]
    assert kept == list(DEFAULT_NAMES)
    assert before.items() <= {path.name: path.read_bytes() for path in keys.iterdir()}.items()


def test_no_file_is_open_to_others_even_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    rename = Path.rename

    def look(path: Path, target: Path) -> None:
        seen.extend(stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent))
        rename(path, target)

    monkeypatch.setattr(Path, "rename", look)
    before = os.umask(0)
    try:
        make_keys(tmp_path / "keys", ROLES)
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert set(seen) == {0o600, 0o700}


@pytest.mark.parametrize(
    "name", ["kitchen", "detect-", "detect/attic", "../detect", "detect-../x", "broker-2", "", "detect-a b"]
)
def test_a_name_that_is_no_stages_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="expected STAGE or STAGE-LABEL"):
        make_keys(tmp_path / "keys", ROLES, [name])
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o770, 0o777])
def test_a_directory_that_others_enter_is_refused(keys: Path, mode: int) -> None:
    keys.chmod(mode)
    for use in (
        lambda directory: make_keys(directory, ROLES),
        broker_keys,
        lambda directory: stage_keys(directory, "detect"),
    ):
        with pytest.raises(UserError, match=f"chmod 700 {keys}"):
            use(keys)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
@pytest.mark.parametrize("name", ["broker", "detect"])
def test_a_secret_that_others_could_read_or_change_is_refused(keys: Path, mode: int, name: str) -> None:
    (keys / f"{name}.secret").chmod(mode)
    with pytest.raises(UserError, match=f"chmod 600 {keys}/{name}.secret"):
        check_keys(keys, [name])


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("name", ["", "detect.secret"])
def test_what_belongs_to_another_user_is_refused(keys: Path, name: str) -> None:
    os.chown(keys / name, 65534, -1)
    with pytest.raises(UserError, match=f"chown 0 {keys / name}"):
        stage_keys(keys, "detect")


def test_a_machine_needs_the_keys_of_its_stages_only(keys: Path) -> None:
    for path in keys.iterdir():
        if path.name not in ("broker.public", "detect.secret"):
            path.unlink()
    (keys / "detect.secret").rename(keys / "detect-attic.secret")
    assert stage_keys(keys, "detect").name == "detect-attic"
    with pytest.raises(UserError, match=r"has no classify.secret; copy it there, or make it"):
        check_keys(keys, ["detect", "classify"])


def test_of_two_keys_none_is_guessed(keys: Path) -> None:
    make_keys(keys, ROLES, ["detect-attic"])
    with pytest.raises(UserError, match=r"has detect-attic.secret, detect.secret; leave only the one"):
        stage_keys(keys, "detect")


def test_a_missing_directory_is_reported_with_the_command_that_makes_it(tmp_path: Path) -> None:
    for role in ("broker", "detect"):
        with pytest.raises(UserError, match=f"no directory {tmp_path}/no; make it with: python run.py keys"):
            check_keys(tmp_path / "no", [role])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"curve\n",
        b'public-key = "short"\n',
        b'public-key = "' + b"#" * 40 + b'"',
        b'public-key = "' + b"\xff" * 40 + b'"',
    ],
)
@pytest.mark.parametrize("name", ["detect.public", "broker.secret"])
def test_a_damaged_file_is_named(keys: Path, name: str, content: bytes) -> None:
    (keys / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{keys / name} is damaged"):
        broker_keys(keys)


def test_a_secret_that_is_not_its_publics_is_damaged(keys: Path) -> None:
    path = keys / "detect.secret"
    path.write_bytes(path.read_bytes().replace(stage_keys(keys, "detect").public, zmq.curve_keypair()[0]))
    with pytest.raises(UserError, match="is damaged"):
        stage_keys(keys, "detect")


def test_public_key_with_a_malformed_name_is_refused(keys: Path) -> None:
    (keys / "detect.public").rename(keys / "Detect 2.public")
    with pytest.raises(UserError, match=r"Detect 2.public: expected STAGE.public or STAGE-LABEL.public"):
        broker_keys(keys)


def test_one_key_under_two_names_is_reported(keys: Path) -> None:
    (keys / "display-2.public").write_bytes((keys / "detect.public").read_bytes())
    with pytest.raises(UserError, match="detect and display-2 have the same key"):
        broker_keys(keys)


def test_a_secret_is_in_no_representation(keys: Path) -> None:
    for held in (broker_keys(keys), stage_keys(keys, "detect")):
        assert held.secret.decode() not in repr(held)


# ----------------------------------------------------------------------------------- this user's own keys


def test_first_starts_at_once_agree(tmp_path: Path) -> None:
    code = (
        "from pipeline.wire.keys import *; from stages.stage import ROLES; "
        "print(stage_keys(user_directory(ROLES), 'supervisor').public)"
    )
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    starts = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    said = {start.communicate(timeout=60)[0] for start in starts}
    assert len(said) == 1
    assert said != {""}
    assert [path.name for path in (tmp_path / "emotions").iterdir()] == ["keys"]
    assert stat.S_IMODE((tmp_path / "emotions").stat().st_mode) == 0o700
    check_keys(tmp_path / "emotions" / "keys", DEFAULT_NAMES)


def test_an_account_without_a_home_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    with pytest.raises(UserError, match=r"HOME is not set; set it, or --set security.keys=DIR"):
        user_directory(ROLES)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"no place for this user's keys: .*: Not a directory; name one"):
        user_directory(ROLES)
