"""FER+ votes: joined to the right pictures or refused, and what follows from them."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.common.labels import EMOTIONS
from tests.support import fer_faces as made
from trainer.dataset import load_for_scoring
from trainer.votes import VOTE_COLUMNS, distribution, majority, read_votes

COUNTS = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
TEN = "0,1,2,3,4,5,6,7,8,9"
"""The first row's votes, each column another number."""
TEN_IN_ORDER = [4, 5, 6, 1, 3, 2, 0, 7, 8, 9]
"""The same as angry, disgust, fear, happy, sad, surprise, neutral, contempt, unknown, no face."""
ROWS = made.rows(training=1, public=1)
NAMES = [row.name for row in ROWS]


def number(row: made.Row) -> str:
    """Votes that name the row: so many people text angry."""
    return TEN if row.number == 0 else f"0,0,0,0,{row.number},0,0,0,0,0"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]))
    return path


def ferplus(path: Path, rows: Sequence[made.Row] = ROWS) -> Path:
    lines = [f"{row.number},{row.name},{number(row)}" for row in rows]
    return write(path, f"row,file,{COUNTS}", *lines)


def release(path: Path, rows: Sequence[made.Row] = ROWS) -> Path:
    lines = [f"{row.usage},fer{row.number:07d}.png,{number(row)}" for row in rows]
    return write(path, f"Usage,Image name,{COUNTS}", *lines)


def test_ferplus_is_joined_by_name(tmp_path: Path) -> None:
    found = read_votes(ferplus(tmp_path / "ferplus.csv"), tmp_path, [NAMES[3], NAMES[0]])
    assert found.dtype == np.uint8
    assert found.tolist() == [[3, *[0] * 9], TEN_IN_ORDER]
    assert len(VOTE_COLUMNS) == 10


def test_picture_without_votes_has_zeros(tmp_path: Path) -> None:
    votes = ferplus(tmp_path / "ferplus.csv", ROWS[1:])
    assert read_votes(votes, tmp_path, NAMES[:2]).sum(axis=1).tolist() == [0, 1]


def test_release_is_joined_by_row(tmp_path: Path) -> None:
    votes = release(tmp_path / "fer2013new.csv")
    data = made.write_csv(tmp_path / "fer2013.csv", ROWS)
    found = read_votes(votes, data, [NAMES[9], NAMES[0]])
    assert found.tolist() == [[9, *[0] * 9], TEN_IN_ORDER]
    # Names with five digits carry the row even where the pictures are files.
    assert (read_votes(votes, tmp_path, [NAMES[9], NAMES[0]]) == found).all()


def test_rows_taken_out_of_both_files_are_joined_by_position(tmp_path: Path) -> None:
    kept = ROWS[3:]
    data = made.write_csv(tmp_path / "fer2013.csv", kept)
    _, faces = load_for_scoring(data, "validation")
    found = read_votes(release(tmp_path / "fer2013new.csv", kept), data, faces.names)
    assert found[:, 0].tolist() == [row.number for row in kept if row.usage == "PublicTest"]


def test_kaggle_names_cannot_be_joined_to_the_release(tmp_path: Path) -> None:
    votes = release(tmp_path / "fer2013new.csv")
    with pytest.raises(UserError, match=r"Training_10118481\.jpg, which has none"):
        read_votes(votes, tmp_path, ["train/angry/Training_10118481.jpg"])


def test_csv_of_another_length_is_refused(tmp_path: Path) -> None:
    data = made.write_csv(tmp_path / "fer2013.csv", ROWS[:-1])
    with pytest.raises(UserError, match=r"expected 13 rows as in .*, found 14"):
        read_votes(release(tmp_path / "fer2013new.csv"), data, NAMES[:3])


def test_rows_of_another_part_are_refused(tmp_path: Path) -> None:
    votes = release(tmp_path / "fer2013new.csv", [*ROWS[7:], *ROWS[:7]])
    data = made.write_csv(tmp_path / "fer2013.csv", ROWS)
    with pytest.raises(UserError, match="expected Training for train/"):
        read_votes(votes, data, NAMES[:3])


def test_name_of_another_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 3: expected train/sad/Training_00001\.png"):
        read_votes(ferplus(tmp_path / "ferplus.csv"), tmp_path, ["train/sad/Training_00001.png"])


def test_votes_of_other_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none"):
        read_votes(ferplus(tmp_path / "ferplus.csv"), tmp_path, ["train/angry/Training_10118481.jpg"])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "line 1: expected the columns"),
        ("emotion,pixels,Usage\n0,1 2,Training\n", "line 1: expected the columns"),
        (f"file,{COUNTS}\n", "found no rows"),
        (f"file,{COUNTS}\na.png,0,0,0,x,0,0,0,0,0,0\n", "line 2: expected numbers"),
        (f"file,{COUNTS}\na.png,0,0,0,256,0,0,0,0,0,0\n", "line 2: expected numbers"),
        (f"file,{COUNTS}\na.png,0,0\n", "line 2: expected numbers"),
    ],
)
def test_wrong_or_damaged_file_is_refused(content: str, text: str, tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text(content)
    with pytest.raises(UserError, match=text):
        read_votes(votes, tmp_path, NAMES)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        read_votes(tmp_path / "none.csv", tmp_path, NAMES)


def test_majority_is_a_single_winner_among_the_seven() -> None:
    votes = np.array(
        [
            [6, 0, 0, 4, 0, 0, 0, 0, 0, 0],  # angry
            [0, 0, 0, 0, 0, 0, 3, 2, 2, 2],  # neutral, though not by half
            [4, 0, 0, 4, 0, 0, 0, 0, 0, 0],  # a tie of two emotions
            [4, 0, 0, 0, 0, 0, 0, 4, 0, 0],  # a tie with contempt
            [3, 0, 0, 0, 0, 0, 0, 4, 0, 0],  # contempt
            [3, 0, 0, 0, 0, 0, 0, 0, 4, 0],  # unknown
            [3, 0, 0, 0, 0, 0, 0, 0, 0, 4],  # no face
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
        np.uint8,
    )
    found = majority(votes)
    assert found.dtype == np.int64
    assert found.tolist() == [0, 6, -1, -1, -1, -1, -1, -1]


def test_distribution_is_over_the_seven() -> None:
    votes = np.array(
        [
            [1, 0, 0, 4, 0, 0, 0, 3, 2, 0],
            [0, 4, 0, 0, 0, 0, 0, 6, 0, 0],
            [0] * 10,
            [200, 200, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
        np.uint8,
    )
    shares, mask = distribution(votes)
    assert shares.dtype == np.float32
    assert mask.tolist() == [True, False, False, True]
    assert shares[0] == pytest.approx([0.2, 0, 0, 0.8, 0, 0, 0])
    assert shares[1:3] == pytest.approx(np.full((2, 7), 1 / 7))
    assert shares[3, :2] == pytest.approx([0.5, 0.5]), "sums beyond a byte"
    assert distribution(votes, least=4)[1].tolist() == [True, True, False, True]
    assert distribution(votes, least=0)[1].tolist() == [True, True, False, True], "none has no shares"


def test_publictest_has_3372_pictures_with_a_majority(shared: Path) -> None:
    path = shared / "data/ferplus.csv"
    with path.open(newline="") as text:
        names = [row["file"] for row in csv.DictReader(text) if "PublicTest" in row["file"]]
    people = majority(read_votes(path, shared / "data/fer2013.zip", names))
    labels = np.array([EMOTIONS.index(name.split("/")[1]) for name in names])
    clear = people >= 0
    assert clear.sum() == 3372
    assert (people == labels)[clear].mean() == pytest.approx(0.654, abs=0.0005)
