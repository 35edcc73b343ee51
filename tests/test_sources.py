"""What the project's code never does: run what came as data, hand words to a shell, decide by the day."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "stages", "trainer", "bench")

MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "jsonpickle",
    "code",
}
"""Loading with them runs what is loaded."""

CALLS = {
    "eval", "exec", "compile", "__import__",
    "os.system", "os.popen", "os.execl", "os.execv", "os.spawnl", "os.spawnv",
    "subprocess.getoutput", "subprocess.getstatusoutput",
    "yaml.load", "torch.load",
}  # fmt: skip

OF_THE_DAY = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}
"""Clocks that can be set: nothing is decided by them. `time.strftime` writes them into the log."""


def sources() -> list[Path]:
    return [ROOT / "run.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def found_in(text: str) -> list[str]:
    """Return what is forbidden in a source, each as line: what."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {m}" for m in modules if m.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            words = {word.arg: word.value for word in node.keywords}
            if called in CALLS | OF_THE_DAY:
                found.append(f"{node.lineno}: {called}")
            for word in ("shell", "allow_pickle", "enable_unsafe_deserialization"):
                if word in words and not is_false(words[word]):
                    found.append(f"{node.lineno}: {word}=")
            if "safe_mode" in words and is_false(words["safe_mode"]):
                found.append(f"{node.lineno}: safe_mode=False")
        if isinstance(node, ast.Attribute) and node.attr in (
            "recv_pyobj",
            "send_pyobj",
            "enable_unsafe_deserialization",
        ):
            found.append(f"{node.lineno}: {node.attr}")
    return found


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_is_run_and_no_clock_decides(path: Path) -> None:
    assert found_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import marshal as m",
        "eval(x)",
        "exec(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
        "keras.saving.load_model(x, safe_mode=False)",
        "socket.recv_pyobj()",
        "keras.config.enable_unsafe_deserialization()",
        "time.time()",
        "datetime.datetime.now()",
    ],
)
def test_each_would_be_found(line: str) -> None:
    assert len(found_in(line)) >= 1


def test_no_file_of_the_project_is_a_pickle() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split() if listed.returncode == 0 else []
    assert not [
        name for name in names if name.endswith((".pkl", ".pickle", ".npy", ".npz", ".pt", ".joblib"))
    ]
