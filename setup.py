"""Copies the data that is beside the packages into them; pyproject.toml has everything else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithData(build_py):
    """Copies the data to where pipeline/common/files.py looks for it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # it runs from the checkout
            return
        target = Path(self.build_lib) / "pipeline" / "installed"
        for source in (Path("pipeline.toml"), Path("requirements.txt"), *sorted(Path("models").iterdir())):
            if source.suffix != ".keras":  # needs TensorFlow, which is for the trainer in a checkout
                (target / source).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / source)


setup(cmdclass={"build_py": BuildWithData})
