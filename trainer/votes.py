"""FER+: the votes of ten people for each picture of FER2013 (Barsoum et al., 2016, arXiv:1608.01041).

They come as `ferplus.csv`, keyed by file name, or as the original release's `fer2013new.csv`, whose rows are
those of `fer2013.csv`.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from trainer.pictures import CSV_ERRORS, is_csv, open_text

VOTE_COLUMNS: Final = (*EMOTIONS, "contempt", "unknown", "no_face")
"""The order of votes here: the seven emotions in the project's order, then the other three answers."""

FILE_COLUMNS: Final = (
    "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt", "unknown", "NF",
)  # fmt: skip
"""VOTE_COLUMNS as both files name them."""

NUMBERED: Final = re.compile(r"(Training|PublicTest|PrivateTest)_(\d{5})\.")
"""A file name with its row in fer2013.csv. Kaggle's names, such as Training_10118481.jpg, have none."""


@dataclass(frozen=True)
class Row:
    """One row of a file of votes: `where` it is, the columns that name its picture, and (10,) votes."""

    where: str
    key: Mapping[str, str]
    votes: NDArray[np.uint8]


def read_votes(path: Path, data: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """Return votes (n, 10) in the order of VOTE_COLUMNS for the pictures `names` of `data`.

    A picture without votes has a row of zeros. Raises UserError for a file that can't be read, and for votes
    of other pictures or that can't be joined to names without a row.
    """
    rows = read_rows(path)
    key: Any
    by_key: Mapping[Any, Row]
    if "file" in rows[0].key:
        column, by_key = "file", {PurePosixPath(row.key["file"]).name: row for row in rows}
    else:
        column, by_key = "Usage", number_rows(rows, path, data)
    votes = np.zeros((len(names), len(VOTE_COLUMNS)), np.uint8)
    for index, name in enumerate(names):
        key, expected = (PurePosixPath(name).name, name) if column == "file" else row_number(name, path)
        if (row := by_key.get(key)) is None:
            continue
        if row.key[column] != expected:
            raise UserError(
                f"{row.where}: expected {expected} for {name}, found {row.key[column]}; the data is numbered "
                "or sorted differently (rows removed from a csv?): take both from the same place"
            )
        votes[index] = row.votes
    if not votes.any():
        raise UserError(f"{path}: expected votes for pictures of {data}, found none")
    return votes


def number_rows(rows: Sequence[Row], path: Path, data: Path) -> dict[int, Row]:
    """Return the rows of fer2013new.csv by their number in fer2013.csv.

    That is their place if `data` is a csv, else the number in `Image name`, which rows without a face lack.
    Raises UserError for a csv of another length, whose rows are other pictures.
    """
    if not is_csv(data):
        numbers = ((re.fullmatch(r"fer(\d+)\.png", row.key["Image name"]), row) for row in rows)
        return {int(match[1]): row for match, row in numbers if match}
    with open_text(data) as text:
        length = sum(1 for line in text if line.strip()) - 1
    if length != len(rows):
        raise UserError(
            f"{path}: expected {length} rows as in {data}, found {len(rows)}; the rows are not those of the "
            "data: take both from the same place"
        )
    return dict(enumerate(rows))


def row_number(name: str, path: Path) -> tuple[int, str]:
    """Return the row in fer2013.csv and the `Usage` in a picture's name. Raises UserError without them."""
    match = NUMBERED.match(PurePosixPath(name).name)
    if match is None:
        raise UserError(
            f"{path}: its rows are those of fer2013.csv, expected that as --data or file names with its "
            f"row numbers, found {name}, which has none; use fer2013.csv, or a ferplus.csv"
        )
    return int(match[2]), match[1]


def read_rows(path: Path) -> list[Row]:
    """Return all rows of a file of votes, at least one. Raises UserError for another or a damaged file."""
    rows: list[Row] = []
    try:
        with open_text(path) as text:
            reader = csv.DictReader(text, skipinitialspace=True)
            keys = key_columns(reader.fieldnames or (), path)
            for values in reader:
                where = f"{path}: line {reader.line_num}"
                try:
                    counts = bytes(int(values[column] or "") for column in FILE_COLUMNS)
                except ValueError as error:
                    raise UserError(f"{where}: expected numbers of votes, found others ({error})") from error
                key = {column: (values[column] or "").strip() for column in keys}
                rows.append(Row(where, key, np.frombuffer(counts, np.uint8)))
    except CSV_ERRORS as error:
        raise UserError(
            f"{path}: cannot be read after {len(rows)} rows ({error}); expected FER+ votes as csv"
        ) from error
    if not rows:
        raise UserError(f"{path}: expected FER+ votes, found no rows; download it again")
    return rows


def key_columns(columns: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the columns that name a row's picture. Raises UserError if they or FILE_COLUMNS are missing."""
    for keys in (("file",), ("Usage", "Image name")):
        if {*FILE_COLUMNS, *keys} <= set(columns):
            return keys
    raise UserError(
        f"{path}: line 1: expected the columns file (ferplus.csv) or Usage,Image name (fer2013new.csv) and "
        f"{','.join(FILE_COLUMNS)}, found {','.join(columns)[:80] or 'nothing'}; use one of these two files"
    )


def majority(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the emotion (n,) int64 with most of the `votes` (n, 10), as an index into EMOTIONS.

    -1 where no single column of all ten has most votes, and where that one is contempt, unknown or no face.
    """
    most = votes.max(axis=1, keepdims=True)
    winner = votes.argmax(axis=1)
    clear = ((votes == most).sum(axis=1) == 1) & (winner < len(EMOTIONS))
    return np.where(clear, winner, -1).astype(np.int64)


def distribution(votes: NDArray[np.uint8], least: int = 5) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the shares (n, 7) float32 of the seven emotions in `votes` (n, 10), and which (n,) to use.

    Contempt, unknown and no face are left out. The mask is False, and the shares are even, for pictures with
    fewer than `least` votes in the seven.
    """
    seven = votes[:, : len(EMOTIONS)].astype(np.float32)
    total = seven.sum(axis=1, keepdims=True)
    enough = total >= max(least, 1)
    shares = np.where(enough, seven / np.maximum(total, 1), np.float32(1 / len(EMOTIONS)))
    return shares.astype(np.float32), enough[:, 0]
