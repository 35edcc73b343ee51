"""Keras models of one's own: `export --labels` makes of them what the pipeline and `evaluate` take."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.common.labels import EMOTIONS
from stages.classify.classifier import open_classifier
from stages.classify.spec import ClassifySettings
from trainer.__main__ import main

OTHER_ORDER = ["neutral", "happiness", "Surprise", "sadness", "anger", "disgust", "fear"]


def simple(
    shape: tuple[int, int, int], outputs: int = 7, end: str | None = "softmax", rescale: bool = False
) -> Any:
    start = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(start) if rescale else start
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    return keras.Model(start, layers.Dense(outputs, activation=end)(layers.Flatten()(x)))


def mini_xception() -> Any:
    """Of Arriaga et al. 2017 (arXiv:1710.07557), as widely used for FER2013 at 64×64, from -1 to 1."""
    start = keras.Input((64, 64, 1))
    x = start
    for filters in (8, 8):
        x = layers.Conv2D(filters, 3, use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    for filters in (16, 32, 64, 128):
        shortcut = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False)(x)
        shortcut = layers.BatchNormalization()(shortcut)
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.BatchNormalization()(x))
        x = layers.add([x, shortcut])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(7, 3, padding="same")(x))
    return keras.Model(start, layers.Activation("softmax", name="predictions")(x))


def sequential() -> Any:
    body = [
        keras.Input((48, 48, 1)),
        layers.Conv2D(4, 3),
        layers.Flatten(),
        layers.Dense(7, activation="softmax"),
    ]
    return keras.Sequential(body)


class Form(NamedTuple):
    """A network, the options that say what it is, and how it takes RGB pixels (n, size, size, channels)."""

    make: Callable[[], Any]
    options: list[str]
    pixels: Callable[[NDArray[Any]], NDArray[Any]] = lambda faces: faces
    labels: list[str] = OTHER_ORDER
    head: Callable[[NDArray[Any]], NDArray[Any]] = lambda raw: raw


FORMS = {
    "scaled inside": Form(lambda: simple((48, 48, 1), rescale=True), []),
    "raw pixels": Form(lambda: simple((48, 48, 1)), ["--range", "0", "255"]),
    "sequential": Form(sequential, ["--range", "0", "1"], lambda faces: faces / 255),
    "mini-XCEPTION": Form(mini_xception, ["--range", "-1", "1"], lambda faces: faces / 127.5 - 1),
    "colour": Form(lambda: simple((96, 96, 3)), ["--range", "0", "1"], lambda faces: faces / 255),
    "bgr": Form(
        lambda: simple((32, 32, 3)), ["--range", "0", "1", "--bgr"], lambda faces: faces[..., ::-1] / 255
    ),
    "logits": Form(
        lambda: simple((64, 64, 1), end=None, rescale=True), [], head=lambda raw: softmax(raw, axis=1)
    ),
    "sigmoids": Form(lambda: simple((64, 64, 1), end="sigmoid", rescale=True), []),
    "contempt": Form(lambda: simple((48, 48, 1), 8, rescale=True), [], labels=[*OTHER_ORDER, "contempt"]),
    "five": Form(lambda: simple((48, 48, 1), 5, rescale=True), [], labels=OTHER_ORDER[:5]),
}
NAMES = dict(
    zip(OTHER_ORDER, ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"], strict=True)
)


def spread(model: Any) -> None:
    """Give batch normalisation the statistics of a trained network: no scale is 1."""
    rng = np.random.default_rng(4)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_every_form_gives_its_emotions_in_the_pipeline(name: str, suffix: str, tmp_path: Path) -> None:
    form = FORMS[name]
    keras.utils.set_random_seed(8)
    model = form.make()
    spread(model)
    path = tmp_path / f"mine{suffix}"
    model.save(path)
    assert main(["export", str(path), "--labels", *form.labels, *form.options]) == 0
    classifier = open_classifier(ClassifySettings(model=str(path.with_suffix(".onnx"))))
    shape = model.input_shape[1:]
    assert classifier.crop_shape == (shape if shape[2] == 3 else shape[:2])
    faces = np.random.default_rng(1).integers(0, 256, (5, *shape), np.uint8)
    raw = form.head(np.asarray(model(form.pixels(faces.astype(np.float32)))))
    expected = np.zeros((5, 7))
    for column, label in enumerate(form.labels):
        if label in NAMES:
            expected[:, EMOTIONS.index(NAMES[label])] = raw[:, column]
    expected /= expected.sum(axis=1, keepdims=True)
    assert classifier(faces.reshape(5, *classifier.crop_shape)) == pytest.approx(expected, abs=1e-4)


def test_the_card_says_what_was_made_of_what(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.keras"
    simple((64, 64, 1), 5).save(path)
    command = ["export", str(path), "--labels", "fear,surprise,happy,sad,angry", "--range", "0", "1"]
    assert main(command) == 0
    said = capfd.readouterr().out
    assert "64x64 grey, its outputs are probabilities" in said
    assert "it does not know disgust, neutral" in said
    card = json.loads((tmp_path / "mine.json").read_text())
    assert card["input"] == {"shape": [64, 64, 1], "dtype": "uint8"}
    assert card["labels"] == list(EMOTIONS)
    assert card["not_learned"] == {"fer2013": ["disgust", "neutral"]}
    assert card["made_from"]["outputs"] == ["fear", "surprise", "happy", "sad", "angry"]
    assert card["made_from"]["black_and_white"] == [0, 1]
    assert card["onnx"]["command"] == f"python -m trainer {' '.join(command)}"
    assert main(command) == 0, "again, over its own card"


@pytest.mark.parametrize("shape", [(64, 64, 1), (32, 32, 3)])
def test_own_models_are_evaluated(
    shape: tuple[int, int, int], tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.keras"
    simple(shape, rescale=True).save(path)
    assert main(["export", str(path), "--labels", *EMOTIONS]) == 0
    assert main(["evaluate", "--model", str(tmp_path / "mine.onnx"), "--data", str(tiny)]) == 0
    assert "14 pictures" in capfd.readouterr().out


def tall() -> Any:
    return simple((64, 48, 1))


def four_channels() -> Any:
    return simple((48, 48, 4))


def any_size() -> Any:
    start = keras.Input((None, None, 1))
    return keras.Model(start, layers.Dense(7)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(start))))


def two_inputs() -> Any:
    starts = [keras.Input((48, 48, 1)), keras.Input((48, 48, 1))]
    return keras.Model(starts, layers.Dense(7)(layers.Flatten()(layers.Add()(starts))))


def two_outputs() -> Any:
    start = keras.Input((48, 48, 1))
    flat = layers.Flatten()(start)
    return keras.Model(start, [layers.Dense(7)(flat), layers.Dense(1)(flat)])


def unknown_layer() -> Any:
    start = keras.Input((48, 48, 1))
    x = layers.Permute((2, 1, 3))(layers.Rescaling(1 / 255)(start))
    return keras.Model(start, layers.Dense(7)(layers.Flatten()(x)))


REFUSED: dict[str, tuple[Callable[[], Any], list[str], str]] = {
    "no range": (lambda: simple((48, 48, 1)), [*EMOTIONS], "has no layer that scales pixels"),
    "tall": (tall, [*EMOTIONS], "expected one input of square faces"),
    "four channels": (four_channels, [*EMOTIONS], "expected one input of square faces"),
    "any size": (any_size, [*EMOTIONS], "expected one input of square faces"),
    "two inputs": (two_inputs, [*EMOTIONS], "expected one input of square faces"),
    "two outputs": (two_outputs, [*EMOTIONS], "expected one output"),
    "six labels": (
        lambda: simple((48, 48, 1)),
        [*EMOTIONS[:6]],
        "as many --labels as the model has outputs, 7",
    ),
    "unknown label": (lambda: simple((48, 48, 1)), [*EMOTIONS[:6], "bored"], "found 'bored'"),
    "one label twice": (lambda: simple((48, 48, 1)), [*EMOTIONS[:6], "anger"], "expected each emotion once"),
    "unknown layer": (unknown_layer, [*EMOTIONS], "Permute with these options can't be written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_one_line(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, labels, said = REFUSED[case]
    path = tmp_path / "mine.keras"
    make().save(path)
    assert main(["export", str(path), "--labels", *labels]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error
    assert [one.name for one in tmp_path.iterdir()] == ["mine.keras"]


def test_an_h5_file_of_keras_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It says `groups` of layers that have none in Keras 3."""

    faces = keras.Input((48, 48, 1))
    x = layers.DepthwiseConv2D(3)(layers.Conv2D(4, 3)(faces))
    outputs = layers.Dense(7, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    path = tmp_path / "mine.h5"
    keras.Model(faces, outputs).save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    assert main(["export", str(path), "--labels", *EMOTIONS, "--range", "0", "1"]) == 0
    assert (tmp_path / "mine.onnx").is_file()
    capfd.readouterr()
    keras.Model(faces, outputs).save_weights(tmp_path / "mine.weights.h5")
    assert main(["export", str(tmp_path / "mine.weights.h5"), "--labels", *EMOTIONS]) == 2
    assert "weights alone; save the whole model" in capfd.readouterr().err


def test_files_and_options_that_do_not_go_together(
    tiny: Path, taught: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.keras").write_bytes(b"no model")
    for words, said in (
        ([tmp_path / "none.keras", "--labels", "happy,sad"], "no such file"),
        ([tmp_path / "no.keras", "--labels", "happy,sad"], "expected a Keras model"),
        ([tmp_path / "model.pt", "--labels", "happy,sad"], "a file that ends in .keras, .h5, .hdf5"),
        ([tmp_path / "no.keras", "--labels", "happy,sad", "--int8", "--data", tiny], "float32 without data"),
        ([tmp_path / "no.keras", "--range", "0", "1"], "needs --labels"),
        ([tmp_path / "no.keras"], "python -m trainer export --labels"),
        ([taught / "emotion.keras", "--labels", *EMOTIONS], "leave --labels out"),
    ):
        assert main(["export", *map(str, words)]) == 2
        error = capfd.readouterr().err
        assert said in error and error.count("\n") == 1
