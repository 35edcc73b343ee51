"""What a stranger could put into a model file."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.common.files import PROJECT
from stages.classify import keras_classifier
from stages.classify.keras_classifier import Refused, check_model_file
from tests.support.keras_files import Members, members, packed

Config = dict[str, Any]


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        check_model_file(data)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600
    return said


@pytest.fixture
def parts(models: Path) -> Members:
    return members(models / "usual.keras")


@pytest.mark.long
@pytest.mark.parametrize("name", ["usual", "baseline", "tiny", "both", "consensus"])
def test_usual_layers_and_the_trainers_models_pass(models: Path, name: str) -> None:
    """Residual, squeeze-and-excite, separable, normalised; a compiled one; one and two named outputs."""
    path = models / f"{name}.keras"
    assert check_model_file(path.read_bytes()) == members(path)["model.weights.h5"]


def test_the_model_of_the_project_passes() -> None:
    path = PROJECT / "models" / "emotion.keras"
    if not path.is_file():
        pytest.skip("models/emotion.keras is not there")
    check_model_file(path.read_bytes())


# --------------------------------------------------------------------------------------- the archive


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["model.pkl", "../../etc/cron.d/x", "/etc/passwd", "assets/words.txt", "config.json/x", "sub/"]
)
def test_other_members_are_refused(parts: Members, name: str) -> None:
    assert f"4 members ('config.json', '{name}'" in refusal(packed({"config.json": b"", name: b""} | parts))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_missing_and_doubled_members_are_refused(parts: Members) -> None:
    assert "2 members" in refusal(packed({k: v for k, v in parts.items() if k != "model.weights.h5"}))
    file = io.BytesIO(packed(parts))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("config.json", b"{}")
    assert "4 members" in refusal(file.getvalue())


@pytest.mark.long
@pytest.mark.parametrize("name", list(keras_classifier.MEMBERS))
def test_a_bomb_is_refused_before_it_is_unpacked(parts: Members, name: str) -> None:
    bomb = packed(parts | {name: bytes(keras_classifier.MEMBERS[name] + 1)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 600_000
    assert f"{name} is {keras_classifier.MEMBERS[name] + 1:,} bytes when unpacked" in refusal(bomb)


@pytest.mark.long
def test_a_bomb_that_lies_about_its_size_is_unpacked_no_further(parts: Members) -> None:
    honest = packed(parts | {"config.json": bytes(1 << 21)}, zipfile.ZIP_DEFLATED)
    lying = honest.replace((1 << 21).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != honest
    assert "it is not a complete .keras file" in refusal(lying)


@pytest.mark.long
@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_what_was_cut_off_is_refused(parts: Members, keep: float) -> None:
    data = packed(parts)
    assert "it is not a complete .keras file" in refusal(data[: int(keep if keep > 1 else keep * len(data))])


@pytest.mark.long
def test_what_was_damaged_is_refused(parts: Members) -> None:
    data = bytearray(packed(parts))
    data[data.index(b"Rescaling")] ^= 0xFF
    assert "Bad CRC-32" in refusal(bytes(data))


# ---------------------------------------------------------------------------------------- the config


def layer_of(config: Config, name: str) -> Config:
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == name)


def shell(config: Config) -> None:
    layer_of(config, "ReLU").update(module="os", class_name="system", config="true")


def builtin(config: Config) -> None:
    layer_of(config, "Dense")["config"]["activation"] = {
        "module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function",
    }  # fmt: skip


def pickled_lambda(config: Config) -> None:
    layer_of(config, "Dense")["config"]["activation"] = {
        "class_name": "__lambda__",
        "config": {"value": "4wE="},
    }


def import_of_a_module(config: Config) -> None:
    layer_of(config, "ReLU").update(module="keras.src.utils.python_utils", class_name="func_load")


def custom(config: Config) -> None:
    layer_of(config, "ReLU")["registered_name"] = "package>ReLU"


def vocabulary(config: Config) -> None:
    layer_of(config, "ReLU").update(class_name="StringLookup", config={"vocabulary": "/etc/passwd"})


def saved_model(config: Config) -> None:
    layer_of(config, "ReLU").update(class_name="TFSMLayer", config={"filepath": "/tmp/x"})


def deep_inside(config: Config) -> None:
    layer_of(config, "Conv2D")["config"]["dtype"]["config"] = {
        "x": [[{"class_name": "Lambda", "config": {}}]]
    }


def compiled_inside(config: Config) -> None:
    layer_of(config, "Sequential")["compile_config"] = {
        "loss": {"module": "os", "class_name": "function", "config": "system"}
    }


def huge(config: Config) -> None:
    layer_of(config, "Dense")["config"]["units"] = 10**9


def no_name(config: Config) -> None:
    layer_of(config, "ReLU")["class_name"] = ["Lambda"]


def module_of_no_kind(config: Config) -> None:
    layer_of(config, "ReLU")["module"] = {"a": 1}


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shell, "its config names os.system"),
        (builtin, "its config names builtins.function"),
        (pickled_lambda, "its config names None.__lambda__"),
        (import_of_a_module, "its config names keras.src.utils.python_utils.func_load"),
        (custom, "its config registers ReLU as 'package>ReLU'"),
        (vocabulary, "its config names keras.layers.StringLookup"),
        (saved_model, "its config names keras.layers.TFSMLayer"),
        (deep_inside, "its config names None.Lambda"),
        (compiled_inside, "its config names os.function"),
        (huge, "the number 1e+09"),
        (no_name, "which is not a known layer"),
        (module_of_no_kind, "which is not a known layer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_config_of_anything_else_is_refused(
    parts: Members, change: Callable[[Config], None], said: str
) -> None:
    config = json.loads(parts["config.json"])
    change(config)
    assert said in refusal(packed(parts | {"config.json": json.dumps(config).encode()}))


def code(outputs: Config) -> None:
    outputs["consensus"] = {"class_name": "__lambda__", "config": {"value": "4wE="}}


def code_beside_the_layer(outputs: Config) -> None:
    outputs["consensus"][2] = {"module": "os", "class_name": "function", "config": "system"}


def huge_index(outputs: Config) -> None:
    outputs["fer2013"][1] = 10**9


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (code, "its config names None.__lambda__"),
        (code_beside_the_layer, "its config names os.function"),
        (huge_index, "the number 1e+09"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_named_outputs_are_looked_through_as_well(
    models: Path, change: Callable[[Config], None], said: str
) -> None:
    parts = members(models / "both.keras")
    config = json.loads(parts["config.json"])
    change(config["config"]["output_layers"])
    assert said in refusal(packed(parts | {"config.json": json.dumps(config).encode()}))


@pytest.mark.long
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[1]", b"3", b"[" * 100_000, b'"' + b"x" * 100], ids=len
)
def test_a_config_that_is_no_model_is_refused(parts: Members, content: bytes) -> None:
    assert "its config.json is no" in refusal(packed(parts | {"config.json": content}))


@pytest.mark.long
def test_a_lambda_layer_that_keras_has_saved_is_refused(models: Path) -> None:
    assert "keras.layers.Lambda" in refusal((models / "lambda.keras").read_bytes())
