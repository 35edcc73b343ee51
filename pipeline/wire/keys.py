"""CURVE keys: made, found and checked. A pair is two files in ZeroMQ's format, NAME.public and NAME.secret.

NAME is a stage, or STAGE-LABEL where each machine has its own keys. The broker accepts the public keys in its
directory, each for the stage that it is named for.
"""

import os
import re
import shutil
import stat
import struct
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq
from zmq import auth
from zmq.utils import z85

from pipeline.common.errors import UserError
from pipeline.common.files import COMMAND

OTHERS: Final = ("supervisor", "subscriber")
"""Who connects besides the stages: `run.py` itself, and programs that read the results."""

_NAME: Final = re.compile(r"([a-z]+)(-[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_KEY_LENGTH: Final = 40  # characters of Z85 for 32 bytes


@dataclass(frozen=True, slots=True)
class BrokerKeys:
    """The broker's own secret key, and the keys of its peers."""

    secret: bytes = field(repr=False)
    peers: dict[str, str]  # public key, Z85 -> name


@dataclass(frozen=True, slots=True)
class StageKeys:
    """A peer's own pair, and the broker's public key."""

    name: str
    broker: bytes
    public: bytes
    secret: bytes = field(repr=False)


def role_of(name: str) -> str:
    """Return the role that a key is for: detect for `detect-attic`."""
    return name.partition("-")[0]


# ------------------------------------------------------------------------------------------------ making


def make_keys(
    directory: Path, stages: Sequence[str], extra: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Make the missing pairs in `directory`: one for each of `stages`, for `OTHERS`, and the `extra` names.

    Returns the names of those that were made, and of those that existed. Raises UserError for a name that is
    no stage's, and a directory that is open to others or can't be written.
    """
    peers = [*(role for role in stages if role != "broker"), *OTHERS]
    for name in extra:
        match = _NAME.fullmatch(name)
        if name != "broker" and (match is None or match[1] not in peers):
            raise UserError(
                f"keys: expected STAGE or STAGE-LABEL, STAGE one of {', '.join(peers)}, found {name!r}"
            )
    made: list[str] = []
    kept: list[str] = []
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(directory)
        for name in dict.fromkeys(["broker", *peers, *extra]):
            there = any((directory / f"{name}.{half}").exists() for half in ("public", "secret"))
            if not there:
                _make_pair(directory, name)
            (kept if there else made).append(name)
    except OSError as error:
        raise UserError(f"keys: {directory} can't be written: {error.strerror}") from error
    return made, kept


def _make_pair(directory: Path, name: str) -> None:
    """Write both files in a private directory first, so that they are never open to others."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=directory) as workshop:
        public, secret = map(Path, auth.create_certificates(workshop, name))
        for path, half in ((secret, "secret"), (public, "public")):
            path.chmod(0o600)
            path.rename(directory / f"{name}.{half}")


def user_directory(stages: Sequence[str]) -> Path:
    """Return the directory of this user's own keys, for the loopback; make it if there is none.

    It is made whole or not at all, so that runs may start at once. Raises UserError if it can't be made.
    """
    directory = _state_home() / "emotions" / "keys"
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not directory.exists():
            _make_whole(directory, stages)
    except OSError as error:
        raise UserError(
            f"no place for this user's keys: {directory}: {error.strerror}; name one that can be written: "
            f"--set security.keys=DIR, made with: {COMMAND} keys DIR"
        ) from error
    return directory


def _make_whole(directory: Path, stages: Sequence[str]) -> None:
    draft = Path(tempfile.mkdtemp(prefix=".keys-", dir=directory.parent))  # mkdtemp makes it 0700
    try:
        make_keys(draft, stages)
        draft.rename(directory)
    except OSError:
        if not directory.is_dir():  # otherwise another run was faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _state_home() -> Path:
    """Return XDG_STATE_HOME, or its default; see the XDG Base Directory Specification."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        return given
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError as error:  # HOME is not set, and the account has none
        raise UserError(
            "no place for this user's keys: HOME is not set; set it, or --set security.keys=DIR"
        ) from error


# ----------------------------------------------------------------------------------------------- reading


def broker_keys(directory: Path) -> BrokerKeys:
    """Return the broker's secret key and the keys of its peers.

    Raises UserError for what is missing, damaged or open to others.
    """
    check_directory(directory)
    _, secret = _read_secret(_the_secret(directory, "broker"))
    peers: dict[str, str] = {}
    for path in sorted(directory.glob("*.public")):
        if path.stem == "broker":
            continue
        if not _NAME.fullmatch(path.stem):
            raise UserError(f"keys: {path}: expected STAGE.public or STAGE-LABEL.public; remove it")
        key = _read_public(path).decode()
        if key in peers:
            raise UserError(f"keys: {directory}: {peers[key]} and {path.stem} have the same key; remove one")
        peers[key] = path.stem
    return BrokerKeys(secret, peers)


def stage_keys(directory: Path, role: str) -> StageKeys:
    """Return the pair of the peer `role` and the broker's public key; raises as `broker_keys` does."""
    check_directory(directory)
    path = _the_secret(directory, role)
    public, secret = _read_secret(path)
    return StageKeys(path.stem, _read_public(directory / "broker.public"), public, secret)


def check_keys(directory: Path, roles: Iterable[str]) -> None:
    """Raise UserError unless each of `roles` finds in `directory` the keys that it needs."""
    for role in roles:
        if role == "broker":
            broker_keys(directory)
        else:
            stage_keys(directory, role)


def check_directory(directory: Path) -> None:
    """Raise UserError unless `directory` is there, ours, and closed to others."""
    try:
        there = directory.is_dir()
    except OSError as error:
        raise UserError(f"keys: {directory} can't be read: {error.strerror}") from error
    if not there:
        raise UserError(f"keys: no directory {directory}; make it with: {COMMAND} keys {directory}")
    _check_private(directory, "700")


def _the_secret(directory: Path, role: str) -> Path:
    """Return this machine's secret file for a role."""
    found = sorted(path for path in directory.glob("*.secret") if role_of(path.stem) == role)
    if not found:
        raise UserError(
            f"keys: {directory} has no {role}.secret; copy it there, or make it with: "
            f"{COMMAND} keys {directory}"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"keys: {directory} has {names}; leave only the one that {role} uses on this machine")
    return found[0]


def _read_secret(path: Path) -> tuple[bytes, bytes]:
    """Return the public and the secret key of a pair; raise UserError if others can read it."""
    _check_private(path, "600")
    public, secret = _load(path)
    if secret is None or not _is_key(secret) or zmq.curve_public(secret) != public:
        raise _damaged(path)
    return public, secret


def _read_public(path: Path) -> bytes:
    if not path.exists():
        raise UserError(f"keys: no {path}; copy it there from the machine that made the keys")
    public, _ = _load(path)
    if not _is_key(public):
        raise _damaged(path)
    return public


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return auth.load_certificate(path)
    except ValueError as error:  # without a public key
        raise _damaged(path) from error
    except OSError as error:
        raise UserError(f"keys: {path} can't be read: {error.strerror}") from error


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == _KEY_LENGTH and len(z85.decode(text)) == 32
    except (KeyError, struct.error):  # not Z85
        return False


def _damaged(path: Path) -> UserError:
    return UserError(
        f"keys: {path} is damaged: expected a key of ZeroMQ's format; remove it and make another pair"
    )


def _check_private(path: Path, mode: str) -> None:
    """Raise UserError, with the command to fix it, if other users can read or change it."""
    if sys.platform == "win32":  # which has no such permissions
        return
    facts = path.stat()
    if facts.st_uid != os.getuid():
        raise UserError(f"keys: {path} belongs to another user; it must be yours: chown {os.getuid()} {path}")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        raise UserError(
            f"keys: {path} is open to other users; close it, or take another: chmod {mode} {path}"
        )
