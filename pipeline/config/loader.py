"""Reads `pipeline.toml` and `--set` into `PipelineSettings`; whatever is wrong is one UserError.

Each key is converted by its own type, so that an error names the key, what was expected and what was found.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect, structs

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from pipeline.common.labels import LABEL_SETS
from pipeline.config.schema import PipelineSettings, Settings
from pipeline.wire.addresses import check_address

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


# ---- Reads `pipeline.toml` and `--set` into `PipelineSettings`; whatever is wrong is one UserError.


DEFAULT_FILE: Final = PROJECT / "pipeline.toml"

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
DISPLAY_MODES: Final = ("auto", "window", "web", "none")
ENCODINGS: Final = ("auto", "raw", "jpeg")
LABELS: Final = ("auto", *LABEL_SETS)
RESULT_FORMS: Final = (".jsonl", ".csv")
RECORD_FORMS: Final = (".mkv", ".mp4")

REMOVED: Final = {
    "classify.batch_sizes": "batches have any size; classify.max_batch is the largest",
    "classify.spares": "a classifier starts in a second, so none has to stand by",
}
"""Settings of 0.1 that are gone, each with what took its place; kept for one release."""

Tables = dict[str, dict[str, Any]]


def load_settings(path: Path | None, assignments: Sequence[str] = ()) -> PipelineSettings:
    """Return the settings of a file with `table.key=value` assignments on top.

    path: None means `pipeline.toml` beside run.py, or the defaults where there is none.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    tables = _read(path) if path is not None else {}
    for text in assignments:
        table, key, value = _assignment(text)
        tables.setdefault(table, {})[key] = value
    return _checked(tables)


def override(settings: PipelineSettings, values: Mapping[str, Any]) -> PipelineSettings:
    """Return the settings with some values replaced, named `table.key`, and checked again."""
    tables: Tables = {table: structs.asdict(getattr(settings, table)) for table in structs.asdict(settings)}
    for name, value in values.items():
        table, _, key = name.partition(".")
        tables[table][key] = value
    return _checked(tables)


def nearest(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """Return `: did you mean …?` or, if nothing is near, the choices themselves."""
    known = list(choices)
    found = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {prefix}{found[0]}?" if found else f": expected one of {', '.join(known)}"


# ------------------------------------------------------------------------------------------ reading


def _read(path: Path) -> Tables:
    """Return the tables of a TOML file, each known key converted to its type."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no configuration file {path}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except ValueError as error:  # tomllib's own error, or a number of too many digits
        raise UserError(f"{path}: {_toml_message(error)}") from error
    return {table: _read_table(table, values, f"{path}: ") for table, values in content.items()}


def _read_table(table: str, values: Any, where: str) -> dict[str, Any]:
    fields = _fields(table, where)
    if not isinstance(values, dict):
        raise UserError(f"{where}{table}: expected a table [{table}], found {shown(values)}")
    return {
        key: convert(value, f"{table}.{key}", _type(fields, table, key, where), where)
        for key, value in values.items()
    }


def _assignment(text: str) -> tuple[str, str, Any]:
    """Take `table.key=value` apart; the value is read by the key's type."""
    name, equals, value = text.partition("=")
    table, dot, key = name.strip().partition(".")
    if not equals or not dot:
        raise UserError(f"--set: expected table.key=value, found {text!r}")
    kind = _type(_fields(table, "--set: "), table, key, "--set: ")
    return table, key, convert(parse(value.strip(), kind), f"{table}.{key}", kind, "--set: ")


def _fields(table: str, where: str) -> dict[str, inspect.Type]:
    tables = _tables()
    if table not in tables:
        raise UserError(f"{where}unknown table {table!r}{nearest(table, tables)}")
    return {field.name: inspect.type_info(field.type) for field in structs.fields(tables[table])}


def _tables() -> dict[str, type[Settings]]:
    return {field.name: field.type for field in structs.fields(PipelineSettings)}


def _type(fields: Mapping[str, inspect.Type], table: str, key: str, where: str) -> inspect.Type:
    if f"{table}.{key}" in REMOVED:
        raise UserError(f"{where}{table}.{key} is gone: {REMOVED[f'{table}.{key}']}; leave it out")
    if key not in fields:
        raise UserError(f"{where}unknown key {table}.{key}{nearest(key, fields, f'{table}.')}")
    return fields[key]


def _toml_message(error: ValueError) -> str:
    """Return tomllib's message with its place first: `line 3, column 7: Invalid value`."""
    message, at, place = str(error).rpartition(" (at ")
    return f"{place.removesuffix(')')}: {message}" if at else str(error)


# -------------------------------------------------------------------------------------- whole settings


def _checked(tables: Tables) -> PipelineSettings:
    try:
        settings = msgspec.convert(tables, PipelineSettings, strict=True)
    except msgspec.ValidationError as error:
        raise UserError(f"configuration: {error}") from error
    _check_choices(settings)
    _check_addresses(settings)
    return settings


def _check_choices(settings: PipelineSettings) -> None:
    display = settings.display
    _one_of("log.level", settings.log.level, LOG_LEVELS)
    _one_of("display.mode", display.mode, DISPLAY_MODES)
    _one_of("classify.labels", settings.classify.labels, LABELS)
    _one_of("network.encoding", settings.network.encoding, ENCODINGS)
    if display.mode == "web":
        raise UserError(
            "display.mode: this version has no web page yet; use window, or none with --record FILE"
        )
    for name, text, forms in (
        ("display.results", display.results, RESULT_FORMS),
        ("display.record", display.record, RECORD_FORMS),
    ):
        if text and Path(text).suffix.lower() not in forms:
            raise UserError(f"{name}: expected a file that ends in {' or '.join(forms)}, found {text!r}")


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{name}: {value!r} is not known{nearest(value, choices)}")


def _check_addresses(settings: PipelineSettings) -> None:
    broker, keyed = settings.broker, bool(settings.security.keys)
    work = check_address(broker.address, "broker.address", keyed) if broker.address else ""
    publish = check_address(broker.publish, "broker.publish", keyed) if broker.publish else ""
    if work and work == publish:
        raise UserError(
            f"broker.publish: expected another address than broker.address, found {broker.publish!r} for both"
        )
