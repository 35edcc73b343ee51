"""Models, made by Keras in a process of its own: the tests load no TensorFlow."""

from pathlib import Path

import pytest

from tests.support.keras_files import keras_says
from tests.support.models import write_card

_MODELS = """
import sys
from pathlib import Path
import keras
from keras import layers
from tests.support.models import save_keras
from trainer.networks import for_training, for_use
from trainer.settings import MODELS, known_models, read_settings

folder = Path(sys.argv[1])


def save(name, inside, shape=(48, 48, 1), outputs=7, activation="softmax"):
    faces = keras.Input(shape, dtype="uint8")
    last = layers.GlobalAveragePooling2D()(inside(layers.Rescaling(1 / 255)(faces)))
    head = layers.Dense(outputs, activation=activation, bias_initializer="ones")
    keras.Model(faces, head(last)).save(folder / f"{name}.keras")


def usual(x):
    y = layers.Conv2D(8, 3, padding="same", kernel_regularizer=keras.regularizers.L2(1e-4), use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    s = layers.GlobalAveragePooling2D(keepdims=True)(y)
    s = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="relu")(s))
    y = layers.Add()([layers.Multiply()([y, s]), layers.Conv2D(8, 1)(x)])
    y = layers.SeparableConv2D(8, 3, activation=keras.activations.swish)(layers.RandomFlip()(y))
    y = layers.DepthwiseConv2D(3, activation="hard_swish")(y)
    y = layers.Concatenate()([y, layers.LeakyReLU()(y)])
    y = layers.SpatialDropout2D(0.1)(layers.LayerNormalization()(y + y))
    y = keras.Sequential([layers.Conv2D(4, 1, kernel_constraint=keras.constraints.MaxNorm(3))])(y)
    return layers.AveragePooling2D(2)(y)


save("usual", usual)
for name in known_models():
    settings = read_settings(MODELS / f"{name}.toml")
    weights = for_training(settings).get_weights()
    temperatures, offsets = {"fer2013": 1.5, "consensus": 0.8}, {"fer2013": [0.5] * 7}
    for_use(settings, weights, temperatures, offsets).save(folder / f"{name}.keras")
save("tiny", lambda x: x)
save("logits", lambda x: x, activation="linear")
save("wide", lambda x: x, shape=(64, 64, 1))
save("eight", lambda x: x, outputs=8)
save("lambda", layers.Lambda(lambda x: x * 2))
for name, options in {
    "both": {},
    "consensus": {"outputs": {"consensus": "happy"}},
    "people": {"outputs": {"fer2013": "sad", "people": "happy"}},
    "both_eight": {"more": 1},
    "both_logits": {"softmax": False},
}.items():
    save_keras(folder / f"{name}.keras", **options)
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: usual and those of the trainer fit, wide, eight and lambda do not.

    The cards of those with several outputs are left to the tests.
    """
    folder = tmp_path_factory.mktemp("models")
    keras_says(_MODELS, folder)
    for path in folder.glob("*.keras"):
        write_card(path)
    return folder
