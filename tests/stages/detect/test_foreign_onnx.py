"""ONNX files that point elsewhere, or are of another network."""

from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.settings import DetectSettings
from stages.detect.yunet import YuNetDetector

Field = tuple[int, int, "bytes | int"]  # number, wire type, value

GRAPH, INITIALIZER, OUTPUT = 7, 5, 12  # of ModelProto, and of its GraphProto
RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 9, 13, 14  # of TensorProto
BYTES = 2  # wire type


def fields(data: bytes) -> list[Field]:
    """Take a protobuf message apart."""
    found, at = list[Field](), 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == BYTES:
            size, at = varint(data, at)
            found.append((key >> 3, BYTES, data[at : at + size]))
            at += size
        elif key & 7 == 0:
            value, at = varint(data, at)
            found.append((key >> 3, 0, value))
        else:
            size = {1: 8, 5: 4}[key & 7]
            found.append((key >> 3, key & 7, data[at : at + size]))
            at += size
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def number(value: int) -> bytes:
    rest = b""
    while value >= 128:
        rest += bytes([value & 127 | 128])
        value >>= 7
    return rest + bytes([value])


def message(parts: list[Field]) -> bytes:
    """Put one together."""
    out = b""
    for field, kind, value in parts:
        out += number(field << 3 | kind)
        if isinstance(value, int):
            out += number(value)
        else:
            out += number(len(value)) * (kind == BYTES) + value
    return out


def graph_of(model: bytes) -> tuple[list[Field], list[Field]]:
    """Return the fields of the graph and the others of the model."""
    parts = fields(model)
    (graph,) = [value for field, _, value in parts if field == GRAPH]
    assert isinstance(graph, bytes)
    return fields(graph), [part for part in parts if part[0] != GRAPH]


def with_graph(graph: list[Field], rest: list[Field]) -> bytes:
    return message([*rest, (GRAPH, BYTES, message(graph))])


def refused(path: Path, *said: str) -> None:
    with pytest.raises(UserError) as caught:
        YuNetDetector(path, DetectSettings())
    message = str(caught.value)
    assert "\n" not in message
    assert all(text in message for text in ("detect.model", str(path), *said)), message


def test_a_model_taken_apart_and_put_together_is_the_same(yunet_path: Path, tmp_path: Path) -> None:
    """What the other tests here change is all that is changed."""
    path = tmp_path / "yunet.onnx"
    path.write_bytes(with_graph(*graph_of(yunet_path.read_bytes())))
    YuNetDetector(path, DetectSettings())


@pytest.mark.parametrize("absolute", [True, False])
def test_weights_in_another_file_are_not_fetched(
    yunet_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    """Though they lie where the model says, and are the right ones."""
    monkeypatch.chdir(tmp_path)
    path, outside = tmp_path / "yunet.onnx", tmp_path / "weights.bin"
    graph, rest = graph_of(yunet_path.read_bytes())
    place = next(at for at, part in enumerate(graph) if part[0] == INITIALIZER)
    data = graph[place][2]
    assert isinstance(data, bytes)
    tensor = fields(data)
    (raw,) = [value for field, _, value in tensor if field == RAW_DATA]
    assert isinstance(raw, bytes)
    outside.write_bytes(raw)
    where = str(outside if absolute else outside.name).encode()
    entry = message([(1, BYTES, b"location"), (2, BYTES, where)])
    tensor = [part for part in tensor if part[0] != RAW_DATA]
    tensor += [(EXTERNAL_DATA, BYTES, entry), (DATA_LOCATION, 0, 1)]
    graph[place] = INITIALIZER, BYTES, message(tensor)
    path.write_bytes(with_graph(graph, rest))
    refused(path)


def test_another_network_is_refused(yunet_path: Path, tmp_path: Path) -> None:
    """It loads, and gives fewer maps than YuNet."""
    path = tmp_path / "other.onnx"
    graph, rest = graph_of(yunet_path.read_bytes())
    outputs = [part for part in graph if part[0] == OUTPUT]
    path.write_bytes(with_graph([part for part in graph if part not in outputs[1:]], rest))
    refused(path, "is not a YuNet face detector", "obj_8")
