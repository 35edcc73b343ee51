"""Adds what lies beside the packages in a checkout to an installed one: pyproject.toml says the rest."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithData(build_py):
    """Copies the data into the package, where pipeline/common/files.py looks for it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # which runs from the checkout
            return
        target = Path(self.build_lib) / "pipeline" / "installed"
        for source in (Path("pipeline.toml"), Path("requirements.txt"), *sorted(Path("models").iterdir())):
            if source.suffix != ".keras":  # which needs TensorFlow, and so the trainer's checkout
                (target / source).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / source)


setup(cmdclass={"build_py": BuildWithData})
