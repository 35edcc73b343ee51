"""Reads `pipeline.toml` and `--set` into `PipelineSettings`. Errors name the key."""

import difflib
import logging
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect, structs

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.config.schema import PipelineSettings, Settings
from pipeline.wire.addresses import check_address

DEFAULT_FILE: Final = PROJECT / "pipeline.toml"

RENAMED: Final = {"capture.file_window": "broker.file_window"}
"""Settings by their old names, which work for one release."""

_TYPES: Final[dict[type[inspect.Type], str]] = {
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.StrType: "a text",
    inspect.ListType: "a list of texts",
}
"""What a setting may be, and how messages call it."""

_BOUNDS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_CREDENTIALS: Final = re.compile(r"//\S*@")

TableTypes = Mapping[str, type[Settings]]
"""The type of each table by its name: stages/stage.py has them all."""

log = logging.getLogger(__name__)


def load_settings(path: Path | None, assignments: Sequence[str], types: TableTypes) -> PipelineSettings:
    """Return the settings of a file with `table.key=value` assignments on top.

    path: None means `pipeline.toml` beside run.py, or the defaults where there is none.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    values: dict[str, Any] = {}
    for name, value, where in _read(path, types) if path is not None else ():
        values[_current(name, where)] = _convert(value, name, types, where)
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise UserError(f"--set: expected table.key=value, found {text!r}")
        name = name.strip()
        value = _convert(value.strip(), name, types, "--set: ", strict=False)
        values[_current(name, "--set: ")] = value
    return _replaced(PipelineSettings(), values, types)


def override(settings: PipelineSettings, values: Mapping[str, Any], types: TableTypes) -> PipelineSettings:
    """Return the settings with some values, named `table.key`, replaced and checked."""
    given = {name: _convert(value, name, types, "") for name, value in values.items()}
    return _replaced(settings, given, types)


def nearest(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Return `: did you mean …?` or, if no choice is similar, all of them."""
    known = list(choices)
    found = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {prefix}{found[0]}?" if found else f": expected one of {', '.join(known)}"


def _replaced(settings: PipelineSettings, values: Mapping[str, Any], types: TableTypes) -> PipelineSettings:
    for name, value in values.items():
        table, _, key = name.partition(".")
        settings = settings.replace(structs.replace(settings.of(types[table]), **{key: value}))
    broker, keyed = settings.broker, bool(settings.security.keys)
    work = check_address(broker.address, "broker.address", keyed) if broker.address else ""
    publish = check_address(broker.publish, "broker.publish", keyed) if broker.publish else ""
    if work and work == publish:
        raise UserError(
            f"broker.publish: expected another address than broker.address, found {broker.publish!r} for both"
        )
    return settings.replace(structs.replace(broker, address=work, publish=publish))


# ------------------------------------------------------------------------------------------ the file


def _read(path: Path, types: TableTypes) -> Iterable[tuple[str, Any, str]]:
    """Yield `table.key`, its value, and the file's name for messages."""
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UserError(f"no configuration file {path}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except ValueError as error:  # tomllib's own error, or a number of too many digits
        raise UserError(f"{path}: {_toml_message(error, text)}") from error
    where = f"{path}: "
    for table, keys in content.items():
        _table(table, types, where)
        if not isinstance(keys, dict):
            raise UserError(f"{where}{table}: expected a table [{table}], found {shown(keys)}")
        for key, value in keys.items():
            yield f"{table}.{key}", value, where


def _toml_message(error: ValueError, text: str) -> str:
    """Return tomllib's message with its place first: `line 3, column 7: Invalid value`.

    If quotes are missing there, the line with them follows.
    """
    message, at, place = str(error).rpartition(" (at ")
    if not at:
        return str(error)
    number = re.match(r"line (\d+)", place)
    line = text.splitlines()[int(number[1]) - 1] if number else ""
    bare = re.fullmatch(r"(\s*[\w-]+\s*=\s*)([^\s\"'\[{#][^\"'#]*?)\s*(#.*)?", line)
    quote = "'" if bare and "\\" in bare[2] else '"'  # of a Windows path
    hint = f"; text needs quotes: {bare[1].strip()} {quote}{bare[2]}{quote}" if bare else ""
    return f"{place.removesuffix(')')}: {message}{hint}"


# ------------------------------------------------------------------------------------------ one key


def _current(name: str, where: str) -> str:
    """Return the present name of a setting; log a line if it was given by its old one."""
    if name not in RENAMED:
        return name
    log.warning("%s%s is named %s now; the old name works in this release", where, name, RENAMED[name])
    return RENAMED[name]


def _table(table: str, types: TableTypes, where: str) -> type[Settings]:
    if table not in types:
        raise UserError(f"{where}unknown table {table!r}{nearest(table, types)}")
    return types[table]


def _type(name: str, types: TableTypes, where: str) -> Any:
    """Return the type of a key, named `table.key`, as its table has it. Raises UserError if there is none."""
    table, _, key = RENAMED.get(name, name).partition(".")
    keys = {field.name: field.type for field in structs.fields(_table(table, types, where))}
    if key not in keys:
        raise UserError(f"{where}unknown key {name}{nearest(key, keys, f'{table}.')}")
    return keys[key]


def _convert(value: Any, name: str, types: TableTypes, where: str, *, strict: bool = True) -> Any:
    """Return a value as its key's type; not `strict`: it is a text that stands for one.

    Raises UserError if there is no such key, or the value is of another type or out of bounds.
    """
    wanted = _type(name, types, where)
    kind = inspect.type_info(wanted)
    rules: Mapping[str, Sequence[str]] = {}
    if isinstance(kind, inspect.Metadata):
        rules, kind = kind.extra or {}, kind.type
    if isinstance(kind, inspect.ListType) and not strict:
        value = _parse_list(value)
    try:
        found = msgspec.convert(value, wanted, strict=strict)
        # Integers of a message have 64 bits; infinity is out of every range.
        fits = not isinstance(found, int | float) or abs(found) < 2**63
    except msgspec.ValidationError:
        fits = False
    if not fits:
        raise UserError(f"{where}{name}: expected {_expected(kind)}, found {shown(value)}")
    _check_text(found, name, rules, where)
    return found


def _parse_list(text: str) -> Any:
    """Return the list that a text stands for, or the text itself if it is none."""
    if not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_text(text: str, name: str, rules: Mapping[str, Sequence[str]], where: str) -> None:
    """Raise UserError unless a text is one of its key's choices, or ends in one of its endings."""
    choices, endings = rules.get("choices"), rules.get("endings")
    if choices and text not in choices:
        raise UserError(f"{where}{name}: {text!r} is not known{nearest(text, choices)}")
    other = ("", *rules.get("or", ()))
    folder = "or_folder" in rules
    if folder and (text.endswith("/") or not Path(text).suffix or Path(text).is_dir()):
        return
    if endings and text not in other and Path(text).suffix.lower() not in endings:
        also = ", or a folder" if folder else ""
        raise UserError(
            f"{where}{name}: expected a file that ends in {' or '.join(endings)}{also}, found {text!r}"
        )


def _expected(kind: inspect.Type) -> str:
    bounds = [(words, getattr(kind, name, None)) for name, words in _BOUNDS.items()]
    text = " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)
    return f"{_TYPES[type(kind)]} {text}".strip()


def shown(value: Any) -> str:
    """Return a value as TOML writes it, without credentials, cut to a length that fits one line."""
    if isinstance(value, dict):
        return "a table"
    text = str(value).lower() if isinstance(value, bool) else _CREDENTIALS.sub("//…@", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"
