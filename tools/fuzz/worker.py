"""One target under atheris: `python -m tools.fuzz.worker TARGET` and libFuzzer's own arguments."""

import sys

import atheris

with atheris.instrument_imports(include=["pipeline", "stages.onnx_model"]):
    from tools.fuzz.targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    atheris.Setup([name, *arguments], TARGETS[name])
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
