"""The two streams: data on stdout, everything else on stderr; errors become a message and an exit code."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from recsys.cli.interrupt import interruptible
from recsys.errors import RecsysError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Progress = Callable[[str, int, int], None]

TELL_S = 10.0
INTERRUPTED = 130
BROKEN_PIPE = 141
# A table in a file or a pipe is not cut to some terminal's width.
WIDE = 200

log = logging.getLogger(__name__)


def _reader_gone() -> NoReturn:
    """End quietly where the reader, such as `head`, has gone."""
    # What is left in the buffer must not fail again when Python flushes it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(BROKEN_PIPE)


def show(*parts: RenderableType) -> None:
    """Print tables and lines for a person on stdout."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    console = Console(file=sys.stdout, width=width, highlight=False)
    console.on_broken_pipe = _reader_gone  # type: ignore[method-assign]
    for part in parts:
        console.print(part)


def show_json(value: Any, indent: int | None = 1) -> None:
    """Print plain data as JSON on stdout; `indent=None` puts it on one line."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _reader_gone()


def errors() -> Console:
    """Return a console on stderr. Made anew each time, since a test may have replaced the stream."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Tell the person something on stderr that is no data."""
    errors().print(text)


def heading(text: str) -> None:
    """Begin a step of a long run on stderr."""
    errors().print(f"\n{text}", style="bold")


class _ToStderr(logging.Handler):
    """Log lines through rich, so that they do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        errors().print(self.format(record), style="yellow" if record.levelno >= logging.WARNING else "dim")


def guarded(work: Callable[[], object]) -> None:
    """Do some work as a process: set up logs, and turn an error of the family into its message and exit code.

    Any other exception is a bug and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets question marks, not a traceback
    logger = logging.getLogger("recsys")
    if not logger.handlers:
        logger.addHandler(_ToStderr())
        logger.setLevel(logging.INFO)
    try:
        with interruptible():
            work()
    except RecsysError as error:
        errors().print(f"error: {error}", style="red")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Yield what a job reports its progress to: a bar on a terminal, elsewhere a log line at most every ten seconds."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    bars = Bars(*columns, console=errors(), transient=True)
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        yield report
    finally:
        bars.stop()


def _lines() -> Progress:
    told = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= TELL_S:
            told = now
            log.info("%s: %s of %s", stage, f"{done:,}", f"{total:,}")

    return report
