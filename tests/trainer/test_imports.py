"""The trainer stands alone. Ruff bans modules by name; here all of pipeline/ is banned but what is shared."""

import ast
from collections.abc import Iterator

import pytest

from tests.conftest import PROJECT

SHARED = {"pipeline.card", "pipeline.emotions", "pipeline.errors", "pipeline.quiet"}


def imports(code: str) -> Iterator[str]:
    """The first two parts of each name that is imported: `a.b` for `import a.b.c` and `from a import b`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (".".join(alias.name.split(".")[:2]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (".".join(f"{node.module}.{alias.name}".split(".")[:2]) for alias in node.names)


@pytest.mark.parametrize(
    "code", ["import pipeline.cli", "from pipeline import cli", "def f():\n    from pipeline.cli import main"]
)
def test_each_way_to_import_is_seen(code: str) -> None:
    assert list(imports(code)) == ["pipeline.cli"]


def test_trainer_imports_only_what_it_shares_with_the_pipeline() -> None:
    files = list((PROJECT / "trainer").rglob("*.py"))
    found = {(name, str(file)) for file in files for name in imports(file.read_text(encoding="utf-8"))}
    others = {(name, file) for name, file in found if name.split(".")[0] == "pipeline" and name not in SHARED}
    assert files
    assert not others
