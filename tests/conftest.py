"""What all tests share."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of test data beside the project; it is not part of it."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the clips and data sets for tests are not part of the project")
    return folder


@pytest.fixture(autouse=True)
def _no_child_left() -> Iterator[None]:
    """A test ends with no process of its own still running; one that is left is killed."""
    yield
    left = multiprocessing.active_children()
    for child in left:
        child.kill()
        child.join(10)
    assert not left, f"processes left over: {', '.join(child.name for child in left)}"


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's environment decides a test."""
    for name in (
        "YUNET_URL",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
