"""The errors and warnings that scalestop raises."""


class ScalestopError(Exception):
    """Base of every error that scalestop raises on purpose."""


class InputError(ScalestopError, ValueError):
    """An argument, file or setting that cannot be used.

    The message names the argument, what was got, and what to do instead.
    """


class ScalestopWarning(UserWarning):
    """Something the user should know, and that training survives."""
