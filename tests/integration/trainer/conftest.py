"""The fixtures of the trainer's tests."""

from tests.support.trainer import *  # noqa: F403 - pytest finds fixtures by their names here
