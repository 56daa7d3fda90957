"""The two streams: data on stdout, everything else on stderr; errors become a message and an exit code."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from recsys import formatting
from recsys.cli.interrupt import interruptible
from recsys.errors import RecsysError
from recsys.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LOG_EVERY_S = 10.0
DEBUG = "RECSYS_DEBUG"  # the environment variable that does what --debug does
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
    """Print a line for the person on stderr."""
    errors().print(text)


def heading(text: str) -> None:
    """Begin a step of a long run on stderr."""
    errors().print(f"\n{text}", style="bold")


class _ToStderr(logging.Handler):
    """Log lines through rich, so that they do not tear a progress bar; as JSON, one object a line."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        if not self._as_json:
            errors().print(self.format(record), style="yellow" if record.levelno >= logging.WARNING else "dim")
            return
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)


def set_up_logs(verbose: bool = False, debug: bool = False, as_json: bool = False) -> None:
    """Decide what is logged on stderr, and how.

    Args:
        verbose: Log what each step of recsys does.
        debug: Log what its libraries say too, and show the traceback of an error.
        as_json: Write one JSON object a line (time, level, logger, message) instead of text.
    """
    ours, root = logging.getLogger("recsys"), logging.getLogger()
    for logger in (ours, root):
        for handler in [handler for handler in logger.handlers if isinstance(handler, _ToStderr)]:
            logger.removeHandler(handler)
    (root if debug else ours).addHandler(_ToStderr(as_json))
    ours.setLevel(logging.DEBUG if verbose or debug else logging.INFO)
    if debug:
        root.setLevel(logging.DEBUG)
        os.environ[DEBUG] = "1"


def guarded(work: Callable[[], object]) -> None:
    """Do some work as a process: set up logs, and turn an error of the family into its message and exit code.

    Any other exception is a bug and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets question marks, not a traceback
    if not logging.getLogger("recsys").handlers:
        set_up_logs(debug=os.environ.get(DEBUG) == "1")
    try:
        with interruptible():
            work()
    except RecsysError as error:
        _report_error(error)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _report_error(error: RecsysError) -> None:
    """Print an error for a person, or as a log line where logs are JSON; with its traceback under --debug."""
    debug = os.environ.get(DEBUG) == "1"
    handlers = [*logging.getLogger("recsys").handlers, *logging.getLogger().handlers]
    if any(isinstance(handler, _ToStderr) and handler._as_json for handler in handlers):
        log.error("%s", error, exc_info=error if debug else None)
        return
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    errors().print(f"error: {error}", style="red")


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
    logged = time.monotonic()
    began: dict[str, tuple[float, int]] = {}

    def report(stage: str, done: int, total: int) -> None:
        nonlocal logged
        now = time.monotonic()
        since, first = began.setdefault(stage, (now, done))
        if now - logged >= LOG_EVERY_S:
            logged = now
            log.info("%s: %s of %s%s", stage, f"{done:,}", f"{total:,}", _left(now - since, done - first, total - done))

    return report


def _left(spent: float, done: int, left: int) -> str:
    """Say how long a stage will go on at its pace so far; nothing where no pace is known or it is done."""
    return f", {formatting.left(spent / done * left)}" if spent and done and left else ""
