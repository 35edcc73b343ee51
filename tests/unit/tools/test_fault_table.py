"""The table in the docs is that of the outcomes that are committed beside it."""

from pipeline.common.files import PROJECT
from tools.faults import HEADER, read_json, row
from tools.measuring import table

DOCS = PROJECT / "docs"


def test_the_table_in_the_docs_is_that_of_the_outcomes() -> None:
    outcomes = read_json(DOCS / "figures" / "faults.json")
    assert table(HEADER, list(map(row, outcomes))) in (DOCS / "reliability.md").read_text(encoding="utf-8")
