"""Fetches the YuNet face detector from the OpenCV Zoo; only ever because someone asked for it."""

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.progress import Progress

from pipeline.card import sha256
from pipeline.errors import UserError

YUNET_FILE: Final = "face_detection_yunet_2026may.onnx"
YUNET_BYTES: Final = 229_738
YUNET_SHA256: Final = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"

# The Zoo keeps its models in Git LFS: this host serves the content, the raw one only pointers.
YUNET_URL: Final = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
    + YUNET_FILE
)
URL_VARIABLE: Final = "YUNET_URL"

TIMEOUT_S: Final = 20.0
_BLOCK: Final = 16 * 1024


def download_yunet(target_dir: Path, url: str | None = None) -> Path:
    """Fetch YuNet into a directory and return its path; a file that is already there and right is kept.

    url: None means $YUNET_URL or, where that is not set, the OpenCV Zoo. The file appears whole and checked,
    or not at all.
    """
    target = target_dir / YUNET_FILE
    if target.is_file() and sha256(target) == YUNET_SHA256:
        print(f"{target} is already there; its sha256 is right.")
        return target
    address = url or os.environ.get(URL_VARIABLE) or YUNET_URL
    # It is small enough to be checked in memory: nothing unchecked ever touches the disk.
    content = b"".join(_shown(_blocks(address)))
    found = hashlib.sha256(content).hexdigest()
    if found != YUNET_SHA256:
        raise UserError(
            f"{address}: not the expected file: {YUNET_BYTES:,} bytes with sha256 {YUNET_SHA256} expected, "
            f"{len(content):,}{' or more' if len(content) > YUNET_BYTES else ''} with {found} found"
        )
    _write(target, content)
    print(f"{target}: {len(content):,} bytes, sha256 checked.")
    return target


def _blocks(url: str) -> Iterator[bytes]:
    """Yield what `url` serves, at most a block more than YuNet has; UserError if it breaks off."""
    received = 0
    if not url.startswith(("https://", "http://")):
        raise UserError(f"{url!r}: expected an address that starts with https:// or http://")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            announced: int | None = response.length
            while received <= YUNET_BYTES and (block := response.read1(_BLOCK)):
                received += len(block)
                yield block
    except urllib.error.HTTPError as error:
        with error:
            raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UserError(f"{url}: not reached: {error.reason}; is there a network?") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise UserError(f"{url!r} is not an address: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(_broken_off(url, received, reason)) from error
    if announced is not None and received < min(announced, YUNET_BYTES):
        raise UserError(_broken_off(url, received, "the connection was closed"))


def _broken_off(url: str, received: int, reason: str) -> str:
    return f"{url}: broken off after {received:,} of {YUNET_BYTES:,} bytes: {reason}; try again"


def _shown(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass the blocks on, with a progress bar where there is a terminal to show it on."""
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(YUNET_FILE, total=YUNET_BYTES)
        for block in blocks:
            progress.advance(task, len(block))
            yield block


def _write(target: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{target} can't be written: {error.strerror}") from error
