"""The examples of docs/web.md do what it says."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.common.files import PROJECT
from stages.web.spec import find_port
from tests.support.runs import Start

EXAMPLES = re.findall(
    r"^```(sh|python|js)\n(.*?)^```",
    (PROJECT / "docs" / "web.md")
    .read_text(encoding="utf-8")
    .partition("## For programs")[2]
    .partition("## From")[0],
    re.MULTILINE | re.DOTALL,
)
PROGRAMS = {"sh": ["sh", "-c"], "python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
LIMIT_S = 60


def test_each_example_answers(start: Start, quick: list[str], tmp_path: Path) -> None:
    """Those whose program is not installed are left out."""
    port = find_port("127.0.0.1", 0)
    run = start(*quick, "--source", "demo:2", "--display", "web", "--set", f"web.port={port}")
    run.line("all stages are ready")
    for language, command in PROGRAMS.items():
        examples = [code.replace("8080", str(port)) for kind, code in EXAMPLES if kind == language]
        assert len(examples) == 5
        needed = "curl" if language == "sh" else command[0]
        for code in examples if shutil.which(needed) else []:
            assert said_by([*command, "exec " * (language == "sh") + code], tmp_path), code
    if shutil.which("curl"):
        assert (tmp_path / "now.jpg").read_bytes().startswith(b"\xff\xd8")
    run.signal(signal.SIGINT)
    run.end()


def said_by(command: list[str], place: Path) -> bool:
    """Whether a program writes something; one without end is ended then."""
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as program:
        assert program.stdout is not None
        found = bool(program.stdout.read(1))  # curl counts on stderr what it saves
        if "results" in command[-1] or "mjpg" in command[-1]:
            program.kill()
        program.wait(LIMIT_S)
    return found
