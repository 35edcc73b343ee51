"""`python -m tools.house`: how large the rooms, files, functions and classes of the product are.

Product: everything but tests/ and tools/. `make lint` checks that imports run one way, without cycles.
"""

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from pipeline.common.files import PROJECT

LONG: Final = 50  # lines of a function


def product() -> dict[Path, str]:
    """Return the text of each file that git knows, by its path from the project's directory."""
    command = ["git", "ls-files", "-z", "*.py"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True).stdout
    paths = [Path(name) for name in listed.split("\0") if name and not name.startswith(("tests/", "tools/"))]
    return {path: (PROJECT / path).read_text(encoding="utf-8") for path in paths if (PROJECT / path).exists()}


def room_of(path: Path) -> str:
    """Return the folder that a file belongs to: pipeline/broker, stages/detect, trainer."""
    depth = 2 if path.parts[0] in ("pipeline", "stages") and len(path.parts) > 2 else 1
    return "/".join(path.parts[:depth]) if len(path.parts) > 1 else "."


def function_lengths(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.end_lineno - node.lineno + 1


def class_attributes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give for each class how many attributes it declares or assigns to `self`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        declared = [n.target for n in node.body if isinstance(n, ast.AnnAssign)]
        stored = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
        names = {ast.unparse(target) for target in declared}
        names |= {n.attr for n in stored if ast.unparse(n.value) == "self"}
        yield len(names), node.name


def main() -> None:
    files = product()
    trees = {path: ast.parse(text) for path, text in files.items()}
    lines = {path: text.count("\n") for path, text in files.items()}
    total = sum(lines.values())
    rooms: Counter[str] = Counter()
    for path, count in lines.items():
        rooms[room_of(path)] += count
    print(f"files: {sum(count > 0 for count in lines.values())}; lines: {total}")
    for room, count in rooms.most_common():
        print(f"  {room:24} {count:6} {count / total:6.1%}")
    lengths = [length for tree in trees.values() for length in function_lengths(tree)]
    above = sum(length > LONG for length in lengths)
    share = f"{above} ({above / len(lengths):.1%})"
    print(f"functions: {len(lengths)}; median {median(lengths):.0f} lines; above {LONG}: {share}")
    classes = sorted((found for tree in trees.values() for found in class_attributes(tree)), reverse=True)
    print("attributes of classes:", ", ".join(f"{name} {count}" for count, name in classes[:5]))


if __name__ == "__main__":
    main()
