"""What HDF5 can point at and claim."""

import io
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest

from stages.classify.keras_classifier import Refused, check_weights


def file_with(add: Callable[[Any], object]) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        layers = file.create_group("layers/dense/vars")
        layers["0"] = np.zeros((3, 7), np.float32)
        layers["1"] = np.zeros(7, np.float32)
        add(file["layers"])
    return content.getvalue()


def external_link(group: Any) -> None:
    group["other"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(group: Any) -> None:
    group["other"] = h5py.SoftLink("/layers/dense")


def virtual(group: Any) -> None:
    layout = h5py.VirtualLayout((7,), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (7,))
    group.create_virtual_dataset("v", layout)


def external_storage(group: Any) -> None:
    group.create_dataset("v", (8,), np.uint8, external=[("/etc/passwd", 0, 8)])


def claimed(group: Any) -> None:
    group.create_dataset("v", (1 << 40,), np.float32, chunks=(1024,))


def packed(group: Any) -> None:
    group.create_dataset("v", (1024,), np.float32, compression="gzip")


def text(group: Any) -> None:
    group["v"] = "words"


def references(group: Any) -> None:
    group.create_dataset("v", (1,), h5py.ref_dtype)


def named_type(group: Any) -> None:
    group["v"] = np.dtype("f4")


def loop(group: Any) -> None:
    group["again"] = group


def nothing(group: Any) -> None:
    group["v"] = h5py.Empty("f4")


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (external_link, "the ExternalLink 'other', which points elsewhere"),
        (soft_link, "the SoftLink 'other', which points elsewhere"),
        (virtual, "'v', whose numbers are in another file"),
        (external_storage, "'v', whose numbers are in another file"),
        (claimed, "claim more than"),
        (packed, "'v', which is compressed"),
        (text, "'v', which is no array of numbers"),
        (references, "'v', which is no array of numbers"),
        (named_type, "'v', which is no array of numbers"),
        (loop, "more than 20,000 groups and arrays"),
        (nothing, "'v', which is no array of numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_plain_array_is_refused(add: Callable[[Any], None], said: str) -> None:
    with pytest.raises(Refused) as caught:
        check_weights(file_with(add))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_plain_arrays_pass() -> None:
    check_weights(file_with(lambda group: None))


@pytest.mark.parametrize("keep", [0, 10, 800, 2000])
def test_what_was_cut_off_is_refused(keep: int) -> None:
    with pytest.raises(Refused, match="its weights can't be read") as caught:
        check_weights(file_with(lambda group: None)[:keep])
    assert "\n" not in str(caught.value)
