"""A file of FER+ votes as rows: `ferplus.csv` or the original release's `fer2013new.csv`."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from trainer.data.csvform import BROKEN, open_text

IN_FILE: Final = (
    "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt", "unknown", "NF",
)  # fmt: skip
"""The votes as both files name them, in the order of votes.VOTE_COLUMNS."""


@dataclass(frozen=True)
class Row:
    """One row of a file of votes: where it stands, what it says of its picture, and (10,) votes."""

    where: str
    key: Mapping[str, str]
    votes: NDArray[np.uint8]


def read_rows(path: Path) -> list[Row]:
    """All rows of a file of votes, at least one. Raises UserError for another or a damaged file."""
    rows: list[Row] = []
    try:
        with open_text(path) as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            keys = key_columns(reader.fieldnames or (), path)
            for values in reader:
                where = f"{path}: line {reader.line_num}"
                key = {column: (values[column] or "").strip() for column in keys}
                rows.append(Row(where, key, counts([values[column] for column in IN_FILE], where)))
    except BROKEN as error:
        raise UserError(
            f"{path}: cannot be read after {len(rows)} rows ({error}); expected FER+ votes as csv"
        ) from error
    if not rows:
        raise UserError(f"{path}: expected FER+ votes, found no rows; fetch it anew")
    return rows


def key_columns(columns: Sequence[str], path: Path) -> tuple[str, ...]:
    """The columns that name a row's picture. Raises UserError unless these and all of IN_FILE are there."""
    missing = [column for column in IN_FILE if column not in columns]
    for keys in (("file",), ("Usage", "Image name")):
        if not missing and set(keys) <= set(columns):
            return keys
    raise UserError(
        f"{path}: line 1: expected the columns file (ferplus.csv) or Usage,Image name (fer2013new.csv) and "
        f"{','.join(IN_FILE)}, found {','.join(columns)[:80] or 'nothing'}; take one of these two files"
    )


def counts(texts: Sequence[str | None], where: str) -> NDArray[np.uint8]:
    """Votes (10,) of one row. Raises UserError unless all are whole numbers from 0 to 255."""
    try:
        return np.frombuffer(bytes(int(text or "") for text in texts), np.uint8)
    except ValueError as error:
        raise UserError(
            f"{where}: expected numbers of votes, found others ({error}); mend the row"
        ) from error
