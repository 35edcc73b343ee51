"""What a child process says of its end."""

import errno

import pytest

from pipeline.supervisor.child_main import lacks_memory


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx265.so: failed to map segment from shared object"), True),
        (RuntimeError("std::bad_alloc"), True),
        (ImportError("cannot import name 'x'"), False),
        (OSError(errno.ENOENT, "No such file or directory"), False),
    ],
)
def test_a_lack_of_memory_is_not_taken_for_a_fault(error: Exception, lacks: bool) -> None:
    assert lacks_memory(error) == lacks
