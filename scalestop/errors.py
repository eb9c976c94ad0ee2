"""The errors and warnings that scalestop raises."""


class ScalestopError(Exception):
    """Base of every error that scalestop raises on purpose."""


class InputError(ScalestopError, ValueError):
    """An argument, file or setting that cannot be used.

    The message names the argument, what was got, and what to do instead.
    """


class ScalestopWarning(UserWarning):
    """Something the user should know, and that training survives."""


def shown(value: object, most: int = 160) -> str:
    """Return a value for an error's message: its `repr` in one line, cut where it is long.

    Never raises: an int of over 4,300 digits, a list that holds itself or a `__repr__` of somebody else's may.

    Args:
        value: What was got.
        most: Characters of it to show.
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"a value of type {type(value).__name__} that cannot be printed"
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
