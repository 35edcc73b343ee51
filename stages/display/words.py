"""What emotions are called where people see them: in pictures and in the terminal."""

from collections.abc import Mapping

from stages.display.record import FaceRecord

_words: dict[str, str] = {}


def use_words(words: Mapping[str, str]) -> None:
    """Call emotions, and `uncertain`, so in this process; what is left out, or empty, keeps its name."""
    _words.clear()
    _words.update({name: " ".join(word.split()) for name, word in words.items() if word.strip()})


def word_for(name: str) -> str:
    """Return what an emotion, or `uncertain`, is called."""
    return _words.get(name, name)


def short_label(face: FaceRecord) -> str:
    """Return the emotion that is shown for a face, or that it is uncertain."""
    return word_for("uncertain" if face.smoothed.uncertain else face.smoothed.emotion)
