"""`run.py` without what it needs."""

import subprocess
import sys

from pipeline.common.files import PROJECT


def test_without_the_environment_one_line_tells_how_to_make_it() -> None:
    # -S: no site-packages, as of a Python that nothing was installed for
    done = subprocess.run([sys.executable, "-S", "run.py"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the package ")
    assert "make run" in line and "pip install -r requirements.txt" in line
