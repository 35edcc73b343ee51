"""The command lines that cards state, by which a file can be made again."""

import shlex
from typing import Any


def command_line(command: str, *words: str) -> str:
    """Return the line that runs a command of the trainer with these words."""
    return shlex.join(["python", "-m", "trainer", command, *words])


def option(name: str, value: Any) -> list[str]:
    """Return the words that give an option its value, one or several; none for what was not given."""
    if value is None or value is False or value == []:  # 0 is a value
        return []
    values = [] if value is True else value if isinstance(value, list | tuple) else [value]
    return [f"--{name.replace('_', '-')}", *map(str, values)]


def changes(settings: list[str] | None) -> list[str]:
    """Return the words that change settings, each with its own --set."""
    return [word for text in settings or [] for word in ("--set", text)]
