"""One value of a setting: read from text by its key's type, and checked against type and bounds.

Types are msgspec's descriptions of the fields of `pipeline.settings`.
"""

import math
import re
import tomllib
from typing import Any, Final

from msgspec import inspect

from pipeline.errors import UserError

_BOUNDS: Final = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
_CREDENTIALS: Final = re.compile(r"//\S*@")


def parse(text: str, kind: inspect.Type) -> Any:
    """Return the value that a text stands for; the text itself if it is none of that type."""
    try:
        match kind:
            case inspect.BoolType():
                return {"true": True, "false": False}.get(text.lower(), text)
            case inspect.IntType():
                return int(text)
            case inspect.FloatType():
                return float(text)
            case inspect.ListType(item_type=item):
                return _parse_list(text, item)
    except ValueError:
        pass  # refused with the key's name by convert
    return text


def _parse_list(text: str, item: inspect.Type) -> Any:
    if text.startswith("["):
        return tomllib.loads(f"value = {text}")["value"]
    return [parse(part.strip(), item) for part in text.split(",") if part.strip()]


def convert(value: Any, name: str, kind: inspect.Type, where: str) -> Any:
    """Return the value if it is what the key's type and bounds ask for."""
    wrong = UserError(f"{where}{name}: expected {_expected(kind)}, found {shown(value)}")
    match kind:
        case inspect.BoolType():
            right = isinstance(value, bool)
        case inspect.IntType():
            right = _is_whole(value)
        case inspect.FloatType():
            right = _is_whole(value) or (isinstance(value, float) and math.isfinite(value))
        case inspect.StrType():
            right = isinstance(value, str)
        case inspect.ListType(item_type=item):
            if not isinstance(value, list):
                raise wrong
            return [convert(each, name, item, where) for each in value]
        case _:
            raise TypeError(f"{name}: settings of type {kind} can't be read")
    if not right or not _within(value, kind):
        raise wrong
    return float(value) if isinstance(kind, inspect.FloatType) else value


def _is_whole(value: Any) -> bool:
    """Return whether it is an integer, and one that fits the 64 bits of a message."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _within(value: Any, kind: inspect.Type) -> bool:
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return True
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _expected(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.ListType():
            return "a list of texts"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            bounds = [
                f"{words} {getattr(kind, name):g}"
                for name, words in _BOUNDS
                if getattr(kind, name) is not None
            ]
            return " ".join([noun, " and ".join(bounds)]).strip()
        case _:
            return "a text"


def shown(value: Any) -> str:
    """Return a value as TOML writes it, without credentials, cut to a length that fits one line."""
    if isinstance(value, dict):
        return "a table"
    text = str(value).lower() if isinstance(value, bool) else _CREDENTIALS.sub("//…@", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"
