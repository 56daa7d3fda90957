"""Every error that `recsys` raises on purpose, and the exit code each one gives the command line.

A message says what happened, where (file, row, column), the numbers, and what to do. Anything that is
not a `RecsysError` is a bug.
"""


class RecsysError(Exception):
    """The root of the family: catch it to catch all that the library raises on purpose."""

    exit_code = 1


class ConfigError(RecsysError):
    """A setting is unknown, of the wrong type, or names something that does not exist."""

    exit_code = 3


class DataError(RecsysError):
    """The tables cannot be used: a missing file or column, too many bad rows, nothing left to learn from."""

    exit_code = 4


class LeakageError(DataError):
    """Something would know an event at or after the moment that it predicts."""


class ArtifactError(RecsysError):
    """A bundle or a store is missing, corrupted, of another version, or could not be written."""

    exit_code = 5


class UnknownIdError(RecsysError):
    """A user or item id that the bundle does not hold."""

    exit_code = 6


class RequestError(RecsysError):
    """What is asked of a bundle cannot be understood: a filter, a number out of range, an event without its item."""

    exit_code = 7


class ForkError(RecsysError):
    """Work that needs threads which this process lost when it was forked."""
