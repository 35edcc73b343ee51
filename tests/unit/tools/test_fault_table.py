"""The table in the docs is that of the outcomes that are committed beside it."""

from pipeline.common.files import PROJECT
from tools.faults import markdown, read_json

DOCS = PROJECT / "docs"


def test_the_table_in_the_docs_is_that_of_the_outcomes() -> None:
    outcomes = read_json(DOCS / "figures" / "faults.json")
    assert markdown(outcomes) in (DOCS / "reliability.md").read_text(encoding="utf-8")
