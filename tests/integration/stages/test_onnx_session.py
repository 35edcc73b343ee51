"""What every use of ONNX Runtime shares."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from pipeline.common.files import PROJECT
from stages.onnx_model import open_session, reason
from tests.support.graphs import graph_of, node
from tests.support.models import save_onnx

OPEN = """
import sys
from pathlib import Path
from stages.onnx_model import open_session
path = Path(sys.argv[1])
open_session(path, path.read_bytes(), 1, "classify.model")
"""


def test_onnx_runtime_collects_nothing(tmp_path: Path) -> None:
    """Its telemetry keeps a queue and an identifier in the cache directory, and a session in TMPDIR."""
    model = save_onnx(tmp_path / "tiny.onnx", {"fer2013": 0})
    home = tmp_path / "home"
    home.mkdir()
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(home))
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", OPEN, str(model)]
    subprocess.run(command, cwd=PROJECT, env=environment | places, check=True, timeout=60)
    assert list(home.iterdir()) == []


# ------------------------------------------------------------------ graphs that ask for gigabytes

FRAME = np.ones((1, 3, 64, 64), np.float32)


def resized() -> onnx.ModelProto:
    return graph_of([node("Resize", ["x", "", "scales"])], scales=np.float32([1, 1, 10_000, 10_000]))


def padded() -> onnx.ModelProto:
    pads = np.int64([0, 0, 0, 0, 0, 0, 1_000_000_000, 1])
    return graph_of([node("Pad", ["x", "pads"])], pads=pads)


def padded_by_a_convolution() -> onnx.ModelProto:
    return graph_of([node("Conv", ["x", "w"], pads=[30_000] * 4)], w=np.ones((1, 3, 1, 1), np.float32))


def a_million_channels() -> onnx.ModelProto:
    return graph_of([node("Conv", ["x", "w"])], w=np.ones((1_000_000, 3, 1, 1), np.float32))


def a_row_by_a_column() -> onnx.ModelProto:
    row = np.ones((1, 100_000), np.float32)
    return graph_of([node("MatMul", ["column", "row"])], row=row, column=row.T)


@pytest.mark.parametrize(
    "make", [resized, padded, padded_by_a_convolution, a_million_channels, a_row_by_a_column]
)
def test_more_memory_than_a_network_may_have(make: Callable[[], onnx.ModelProto]) -> None:
    path = Path("large.onnx")
    session = open_session(path, make().SerializeToString(), 1, "classify.model")
    with pytest.raises(Exception, match="Available memory") as caught:
        session.run(["y"], {"x": FRAME})
    assert reason(caught.value) == "it needs more than 2 GiB of memory"


DOUBLED = """
import resource, sys
from pathlib import Path
import numpy as np
from stages import onnx_model
onnx_model.MAX_MEMORY = 64 << 20
path = Path(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
session = onnx_model.open_session(path, path.read_bytes(), 1, "classify.model")
loaded = peak()
try:
    session.run(["y"], {"x": np.ones((1, 3, 64, 64), np.float32)})
except Exception as error:
    print(onnx_model.reason(error), file=sys.stderr)
print(loaded - before, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory has another unit")
@pytest.mark.parametrize("source", ["x", "w"])
def test_memory_of_a_tensor_doubled_forty_times(tmp_path: Path, source: str) -> None:
    """From the input while it runs, from a constant while it is loaded."""
    names = [source, *(f"c{number}" for number in range(39)), "y"]
    nodes = [helper.make_node("Concat", [old, old], [new], axis=0) for old, new in pairwise(names)]
    path = tmp_path / "doubled.onnx"
    onnx.save(graph_of(nodes, w=np.ones((1, 64), np.float32)), path)
    command = [sys.executable, "-c", DOUBLED, str(path)]
    done = subprocess.run(command, cwd=PROJECT, check=True, timeout=100, capture_output=True, text=True)
    loaded, run = (int(word) for word in done.stdout.split())
    assert "GiB of memory" in done.stderr
    assert loaded < 64 and run < 192  # MB; of constants, ONNX Runtime would compute 2.6 GB while it loads
