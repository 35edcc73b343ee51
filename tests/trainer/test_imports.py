"""The trainer stands alone: ruff refuses what it must not import, by a list that has to be complete."""

import tomllib

from tests.conftest import PROJECT

SHARED = {"emotions", "errors", "quiet"}


def test_all_else_of_the_pipeline_is_barred() -> None:
    modules = {path.stem for path in (PROJECT / "pipeline").iterdir() if path.suffix in ("", ".py")}
    rules = tomllib.loads((PROJECT / "trainer" / "ruff.toml").read_text())
    barred = rules["lint"]["flake8-tidy-imports"]["banned-api"]
    expected = {f"pipeline.{name}" for name in modules - SHARED if not name.startswith("__")}
    assert {name for name in barred if name.startswith("pipeline.")} == expected
