"""The exception for users, who see it as one line."""


class UserError(Exception):
    """One line for the user: what, where, expected, found, what to do.

    It is printed without a traceback. Before the first frame it ends the run with status 2.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class if there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class LateError(UserError):
    """A UserError after the first frame, such as a full disk: it ends the run with status 1."""
