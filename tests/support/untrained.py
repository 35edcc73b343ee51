"""Small untrained models with named outputs, and votes for made-up faces."""

import json
from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from pipeline.common.labels import EMOTIONS
from pipeline.common.model_card import card_path, new_card
from tests.support import fer_faces as made

NAMED = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
BY_EMOTION = {
    "angry": "0,0,0,0,9,0,0,0,1,0",
    "disgust": "0,0,0,0,0,9,0,0,1,0",
    "fear": "0,0,5,0,0,0,5,0,0,0",
    "happy": "0,9,0,0,0,0,0,0,1,0",
    "sad": "0,0,0,9,0,0,0,0,1,0",
    "surprise": "0,0,9,0,0,0,1,0,0,0",
    "neutral": "0,0,0,0,0,0,0,9,1,0",
}
"""Votes for a face of each emotion: those for fear are divided, and those for neutral are for contempt."""


def write_model(path: Path, outputs: Sequence[str], stated: Sequence[str] = (), size: int = 48) -> Path:
    """A functional model with a dict of these outputs, and its card, which may state others."""
    keras.utils.set_random_seed(5)
    start = keras.Input((size, size, 1), dtype="uint8")
    trunk = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(start)))
    ends = {name: layers.Dense(len(EMOTIONS), activation="softmax", name=name)(trunk) for name in outputs}
    keras.Model(start, ends).save(path)
    card_path(path).write_text(json.dumps(new_card(path, stated or outputs)))
    return path


def write_votes(path: Path, rows: Sequence[made.Row]) -> Path:
    """Votes by file name for these pictures."""
    lines = [f"{row.number},{row.name},{BY_EMOTION[row.emotion]}" for row in rows]
    path.write_text("\n".join([f"row,file,{NAMED}", *lines, ""]))
    return path
