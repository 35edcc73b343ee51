"""ONNX files of strangers: what is refused before ONNX Runtime sees it, and what is accepted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages import onnx_model
from stages.onnx_model import open_session
from tests.support.graphs import plain, quantised

FILE = Path("stranger.onnx")


def opened(data: bytes) -> ort.InferenceSession:
    return open_session(FILE, data, 1, "classify.model")


def refused(data: bytes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(data)
    message = str(caught.value)
    assert message.isprintable(), message
    for part in ("classify.model", str(FILE), said):
        assert part in message


@pytest.mark.parametrize("make", [plain, quantised])
def test_valid_network(make: Callable[[], onnx.ModelProto]) -> None:
    session = opened(make().SerializeToString())
    (found,) = session.run(["y"], {"x": np.ones((2, 3, 8, 8), np.float32)})
    assert len(found) == 2 and np.isfinite(found).all()


@pytest.mark.parametrize("name", ["emotion.onnx", "face_detector.onnx"])
def test_models_of_the_project(name: str) -> None:
    opened((PROJECT / "models" / name).read_bytes())


def test_yunet_of_the_zoo(shared: Path) -> None:
    (path,) = (shared / "models").glob("face_detection_yunet*.onnx")
    opened(path.read_bytes())


# ------------------------------------------------------------------ refused


def external_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL


def external_without_place(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def external_in_an_attribute(model: onnx.ModelProto) -> None:
    """ONNX Runtime takes this place for an address in its memory."""
    tensor = numpy_helper.from_array(np.zeros(3, np.float32))
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
    tensor.external_data.add(key="offset", value="4096")
    model.graph.node.add(op_type="Constant", output=["k"]).attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR, t=tensor
    )


def sparse_weights(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(dims=[1 << 40])


def sparse_constant(model: onnx.ModelProto) -> None:
    attribute = model.graph.node.add(op_type="Constant", output=["k"]).attribute.add(name="sparse_value")
    attribute.sparse_tensor.dims.append(1 << 40)


def functions(model: onnx.ModelProto) -> None:
    model.functions.add(name="mine", domain="mine")


def training_info(model: onnx.ModelProto) -> None:
    model.training_info.add()


def custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "evil.example"


def contributed_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type, model.graph.node[0].domain = "EPContext", "com.microsoft"


def loop(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Loop"


def graph_within(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="then_branch").g.name = "deeper"


def nested_graphs(model: onnx.ModelProto) -> None:
    """Deep enough for a stack to end, where there is recursion."""
    inner = onnx.GraphProto()
    for _ in range(50):
        outer = onnx.GraphProto()
        outer.node.add().attribute.add().g.CopyFrom(inner)
        inner = outer
    model.graph.node[0].attribute.add(name="body").g.CopyFrom(inner)


def texts(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], ["text"]))


def type_without_numbers(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", dims=[0], data_type=TensorProto.STRING))


def more_claimed_than_stored(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1_000_000


def less_claimed_than_stored(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1


def stored_twice(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.float_data.extend([0.0] * (len(tensor.raw_data) // 4))


def stored_as_another_type(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", dims=[2], data_type=1, int32_data=[1, 2]))


def part_of_a_number(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data += b"\0"


def negative_sizes(model: onnx.ModelProto) -> None:
    """Whose product is right."""
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([-4, -27])


def absurd_size(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", dims=[0, 1 << 40], data_type=1))


def absurd_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40


def input_of_many_dimensions(model: onnx.ModelProto) -> None:
    for _ in range(9):
        model.graph.input[0].type.tensor_type.shape.dim.add(dim_param="n")


def many_dimensions(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="t", dims=[1] * 9, data_type=1, raw_data=bytes(4)))


def absurd_pads(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].ints[0] = 1_000_000_000


def absurd_group(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="group", type=onnx.AttributeProto.INT, i=-(1 << 63))


def missing_input(model: onnx.ModelProto) -> None:
    model.graph.node[2].op_type = "Max"
    model.graph.node[2].input.append("")


def missing_output(model: onnx.ModelProto) -> None:
    model.graph.node[3].output.append("")


def many_nodes(model: onnx.ModelProto) -> None:
    for number in range(5000):
        model.graph.node.add(op_type="Identity", input=["x"], output=[f"i{number}"])


def no_nodes(model: onnx.ModelProto) -> None:
    del model.graph.node[:]


def long_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "n" * 2000


def sequence_as_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def names_that_move_the_cursor(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "\x1b[2J\nEvil"


def unknown_mode(model: onnx.ModelProto) -> None:
    model.graph.node[4].attribute[0].s = b"\xff\n"


def unknown_version(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def unknown_name(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "\x1b[2J\nnowhere"


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "r"


def wrong_types(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.int64), "w"))


def wrong_rank(model: onnx.ModelProto) -> None:
    (dense,) = [tensor for tensor in model.graph.initializer if tensor.name == "dense"]
    dense.dims.append(1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (external_weights, "weights in another file"),
        (external_without_place, "weights in another file"),
        (external_in_an_attribute, "weights in another file"),
        (sparse_weights, "sparse weights"),
        (sparse_constant, "sparse weights"),
        (functions, "functions of its own"),
        (training_info, "training info"),
        (custom_operator, "'evil.example.Conv'"),
        (contributed_operator, "'com.microsoft.EPContext'"),
        (loop, "'Loop'"),
        (graph_within, "a graph within its graph"),
        (nested_graphs, "a graph within its graph"),
        (texts, "unknown field (6 of Tensor)"),
        (type_without_numbers, "data type 8"),
        (more_claimed_than_stored, "[1000000, 3, 3, 3]"),
        (less_claimed_than_stored, "[1, 3, 3, 3]"),
        (stored_twice, "[4, 3, 3, 3]"),
        (stored_as_another_type, "[2]"),
        (part_of_a_number, "[4, 3, 3, 3]"),
        (negative_sizes, "[-4, -27]"),
        (absurd_size, "a dimension is 1099511627776"),
        (absurd_input, "a dimension is 1099511627776"),
        (many_dimensions, "9 dimensions"),
        (input_of_many_dimensions, "13 dimensions"),
        (absurd_pads, "an attribute is 1000000000"),
        (absurd_group, "an attribute is -9223372036854775808"),
        (missing_input, "Max lacks an input"),
        (missing_output, "MaxPool lacks an input or output"),
        (many_nodes, "5,009 nodes"),
        (no_nodes, "0 nodes"),
        (long_name, "a name of 2,000 bytes"),
        (sequence_as_input, "unknown field (4 of Type)"),
        (names_that_move_the_cursor, r"'\x1b[2J\nEvil'"),
        (unknown_mode, "not an ONNX model"),
        # What ONNX Runtime refuses itself.
        (unknown_version, "Opset 99"),
        (unknown_name, "nowhere"),
        (cycle, "not acyclic"),
        (wrong_types, "Type Error"),
        (wrong_rank, "rank 3"),
    ],
)
def test_refused(
    change: Callable[[onnx.ModelProto], None], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = plain()
    change(model)
    refused(model.SerializeToString(), said)
    assert capfd.readouterr() == ("", "")


def test_not_an_onnx_file() -> None:
    for data in (b"", b"no network " * 1000, b"PK\3\4" + bytes(100), b"\xff" * 100):
        refused(data, "stranger.onnx is refused")


def test_cut_off_anywhere() -> None:
    data = quantised().SerializeToString()
    for size in range(len(data)):
        with pytest.raises(UserError):
            opened(data[:size])


def test_fields_that_protobuf_would_merge_or_skip() -> None:
    data = plain().SerializeToString()
    refused(data + bytes([7 << 3 | 2, 0]), "Model.graph is repeated")
    refused(data + bytes([7 << 3, 1]), "Model.graph is repeated or of the wrong wire type")
    refused(data + bytes([26 << 3 & 127 | 2 | 128, 1, 0]), "unknown field (26 of Model)")
    refused(data + bytes([1 << 3 | 3, 1 << 3 | 4]), "not an ONNX model")  # a group


def test_text_that_is_not_utf_8() -> None:
    model = plain()
    model.graph.node[0].name = "NAME"
    refused(model.SerializeToString().replace(b"NAME", b"\xff\xfe\xfd\xfc"), "not an ONNX model")


def test_file_of_empty_messages() -> None:
    """Two bytes each, a hundred or more in the memory of whoever reads it as protobuf."""
    nodes = bytes([1 << 3 | 2, 0]) * onnx_model.MAX_FIELDS
    size = len(nodes)
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
    refused(bytes([7 << 3 | 2]) + length + nodes, f"more than {onnx_model.MAX_FIELDS:,} fields")


def test_large_file() -> None:
    refused(bytes(onnx_model.MAX_BYTES + 1), f"at most {onnx_model.MAX_BYTES:,}")


def test_file_that_is_also_of_another_format() -> None:
    """ONNX Runtime would take it for a file of its own format, of which nothing is looked through."""
    model = plain()
    model.producer_name = "ORTM" + "x" * 16
    rest = model.SerializeToString()
    name = bytes([2 << 3 | 2, 20]) + model.producer_name.encode()
    data = bytes([1 << 3, 9]) + name + rest.replace(bytes([1 << 3, 9]) + name, b"", 1)
    assert data[4:8] == b"ORTM" and onnx.load_from_string(data) == model
    with pytest.raises(Exception, match="ORT model verification"):
        ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    opened(data)


@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """Whatever is changed, the file is accepted or refused in one line."""
    content = bytearray(quantised().SerializeToString())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        onnx_model.check_onnx_file(FILE, bytes(content), "classify.model")
    except UserError as error:
        assert str(error).isprintable()
