"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend, told in one line: what, where, expected, found, what to do.

    It is printed without a traceback. Found before the first frame it ends the run with status 2.
    """


def first_line(error: BaseException) -> str:
    """What another's `error` says, as a part of one line; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class LateError(UserError):
    """A UserError that happens once frames have come, as a full disk does: it ends the run with status 1."""
