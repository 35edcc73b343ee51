"""FER+: what ten people saw in each picture of FER2013 (Barsoum et al., 2016, arXiv:1608.01041).

The votes come as `ferplus.csv`, keyed by file name, or as the original release's `fer2013new.csv`, whose rows
are those of `fer2013.csv`.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from trainer.data.pictures import BROKEN_CSV, is_csv, open_text

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
    except BROKEN_CSV as error:
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


# ---- FER+: what ten people saw in each picture of FER2013 (Barsoum et al., 2016, arXiv:1608.01041).


VOTE_COLUMNS: Final = (*EMOTIONS, "contempt", "unknown", "no_face")
"""The order of votes here: the seven emotions in the project's order, then what people could say besides."""

NUMBERED: Final = re.compile(r"(Training|PublicTest|PrivateTest)_(\d{5})\.")
"""A file name that carries its row in fer2013.csv. Kaggle's, such as Training_10118481.jpg, carry none."""


def read_votes(path: Path, data: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """Votes (n, 10) in the order of VOTE_COLUMNS for the pictures `names` of `data`.

    A picture without votes has a row of zeros. Raises UserError for a file that can't be read or that can't
    be joined to the data: one by row for pictures whose names carry no row, or of other pictures.
    """
    rows = read_rows(path)
    if "file" in rows[0].key:
        found = join_by_name(rows, path, names)
    elif is_csv(data):
        found = join_by_row(dict(enumerate(rows)), path, names)
        check_length(rows, path, data)
    else:
        found = join_by_row(by_image_number(rows), path, names)
    if not found.any():
        raise UserError(
            f"{path}: expected votes for pictures of {data}, found none; take the data's own votes"
        )
    return found


def majority(votes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The emotion (n,) int64 that most people saw, by `votes` (n, 10), as an index into EMOTIONS.

    -1 where no single column of all ten has most votes, and where that one is contempt, unknown or no face.
    """
    most = votes.max(axis=1, keepdims=True)
    winner = votes.argmax(axis=1)
    clear = ((votes == most).sum(axis=1) == 1) & (winner < len(EMOTIONS))
    return np.where(clear, winner, -1).astype(np.int64)


def distribution(votes: NDArray[np.uint8], least: int = 5) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Shares (n, 7) float32 of the seven emotions in `votes` (n, 10), and the mask (n,) of those to use.

    Contempt, unknown and no face are left out. The mask is False, and the shares are even, for pictures with
    fewer than `least` votes in the seven.
    """
    seven = votes[:, : len(EMOTIONS)].astype(np.float32)
    total = seven.sum(axis=1, keepdims=True)
    enough = total >= max(least, 1)
    shares = np.where(enough, seven / np.maximum(total, 1), np.float32(1 / len(EMOTIONS)))
    return shares.astype(np.float32), enough[:, 0]


def join_by_name(rows: Sequence[Row], path: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """Votes (n, 10) of `names`, by the rows' own file names.

    Raises UserError for a picture that has another emotion there: its number is then that of another one.
    """
    there = {PurePosixPath(row.key["file"]).name: row for row in rows}
    found = np.zeros((len(names), len(VOTE_COLUMNS)), np.uint8)
    for index, name in enumerate(names):
        row = there.get(PurePosixPath(name).name)
        if row is None:
            continue
        if row.key["file"] != name:
            raise UserError(
                f"{row.where}: expected {name} as in the data, found {row.key['file']}; the data is "
                "numbered or sorted otherwise (rows taken out of a csv?): take both from the same place"
            )
        found[index] = row.votes
    return found


def by_image_number(rows: Sequence[Row]) -> dict[int, Row]:
    """The rows of fer2013new.csv by the number in `Image name`; those that show no face have none."""
    numbers = ((re.fullmatch(r"fer(\d+)\.png", row.key["Image name"]), row) for row in rows)
    return {int(match[1]): row for match, row in numbers if match}


def join_by_row(rows: Mapping[int, Row], path: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """Votes (n, 10) of `names`, whose numbers are keys of `rows`; zeros for those that are not.

    Raises UserError for a name without a row number, or whose part isn't that of its row.
    """
    found = np.zeros((len(names), len(VOTE_COLUMNS)), np.uint8)
    for index, name in enumerate(names):
        match = NUMBERED.match(PurePosixPath(name).name)
        if match is None:
            raise UserError(
                f"{path}: its rows are those of fer2013.csv, expected that as --data or file names with its "
                f"row numbers, found {name}, which tells no row; take fer2013.csv, or a ferplus.csv"
            )
        row = rows.get(int(match[2]))
        if row is None:
            continue
        if row.key["Usage"] != match[1]:
            raise UserError(
                f"{row.where}: expected a row of {match[1]} for {name}, found {row.key['Usage']}; they are "
                "not the data's rows: take both from the same place"
            )
        found[index] = row.votes
    return found


def check_length(rows: Sequence[Row], path: Path, data: Path) -> None:
    """Raise UserError unless the csv `data` has as many rows as the votes: else they'd be of others."""
    with open_text(data) as text:
        length = sum(1 for line in text if line.strip()) - 1
    if length != len(rows):
        raise UserError(
            f"{path}: expected {length} rows as in {data}, found {len(rows)}; the rows are not those of the "
            "data: take both from the same place"
        )
