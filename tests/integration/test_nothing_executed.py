"""No data is ever executed: the whole project is looked through for what could.

What comes from others (messages, models, settings, videos, data sets) is read by parsers that only read. A
call that could run it has no place here, in tests either, unless it is listed below with its reason.
"""

import ast
import subprocess
from collections.abc import Iterator

import pytest

from pipeline.common.files import PROJECT
from tests.support.sources import sources

FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml",
    "jsonpickle", "torch", "code", "codeop", "pty", "commands",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "input",
    "os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.execl", "os.spawnv", "os.spawnl",
    "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "yaml.load", "torch.load", "marshal.load", "marshal.loads", "joblib.load", "numpy.load", "np.load",
    "np.fromregex", "pandas.read_pickle", "pd.read_pickle", "pickle.load", "pickle.loads",
    "keras.config.enable_unsafe_deserialization", "logging.config.listen", "tempfile.mktemp",
    "multiprocessing.Pipe", "multiprocessing.Queue",
}  # fmt: skip
FORBIDDEN_METHODS = {"recv_pyobj", "send_pyobj", "enable_unsafe_deserialization"}
TRUE_KEYWORDS = {"shell", "allow_pickle", "enable_unsafe_deserialization"}
"""Keywords that may not be given at all but as False; `safe_mode` the other way round."""

ALLOWED: set[tuple[str, str]] = {
    # Neither of these loads anything: one sets a switch, the other calls one of PyTorch's functions.
    ("trainer/fit.py", "torch"),
    ("trainer/networks.py", "torch"),
    # It runs the examples of docs/extending.md.
    ("tests/unit/stages/test_extending.py", "exec"),
}
"""(file, what) that are there for a reason, which stands beside them."""


def findings(text: str) -> Iterator[str]:
    """Name whatever in a program could execute data."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.partition(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in FORBIDDEN_MODULES:
                yield module
            case ast.ImportFrom(module=module, names=names):
                yield from (f"{module}.{n.name}" for n in names if f"{module}.{n.name}" in FORBIDDEN_CALLS)
            case ast.Call():
                yield from _of_call(node)
            case ast.Attribute(attr=name) if name in FORBIDDEN_METHODS:  # handed on without a call
                yield name


def _of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    if name in FORBIDDEN_CALLS:
        yield name
    for keyword in node.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg in TRUE_KEYWORDS and value is not False:
            yield f"{name}({keyword.arg}=…)"
        if keyword.arg == "safe_mode" and value is not True:
            yield f"{name}(safe_mode=…)"


def test_nothing_in_the_project_executes_data() -> None:
    found = {
        (str(path.relative_to(PROJECT)), what)
        for path in sources()
        for what in findings(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch.serialization",
        "import marshal as m",
        "from os import system",
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=wanted)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "yaml.load(text)",
        "socket.recv_pyobj()",
        "receive = socket.recv_pyobj",
        "keras.config.enable_unsafe_deserialization()",
        "keras.saving.load_model(path, safe_mode=False)",
    ],
)
def test_what_executes_data_is_found(text: str) -> None:
    assert list(findings(text))


def test_no_file_of_the_project_is_a_pickle() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    names = listed.stdout.split() if listed.returncode == 0 else []
    assert not [
        name for name in names if name.endswith((".pkl", ".pickle", ".npy", ".npz", ".pt", ".joblib"))
    ]


def test_every_model_is_loaded_in_safe_mode() -> None:
    """Which is Keras's default, and said all the same: a default can change, or be changed for a process."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".load_model"):
                words = {keyword.arg for keyword in node.keywords}
                assert "safe_mode" in words, f"{path}:{node.lineno}"
