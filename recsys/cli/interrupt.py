"""Ctrl-C ends a command at any moment, also while modules are being imported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

RETRY_S = 0.05  # seconds until a deferred interrupt is tried again
_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` for SIGINT, but never inside an import.

    An exception in the middle of an import may be lost, where a library turns whatever an optional import raises into
    "not installed", or may come out as another error, where an extension module fails to initialise. So an interrupt
    that comes during an import is raised once the import has ended. A second one is raised at once.

    Does nothing outside the main thread, without timers (Windows), and where the caller has its own handler.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
    ):
        yield
        return
    deferred = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal deferred
        second = deferred and number == signal.SIGINT
        deferred = not second and _importing(frame)
        if not deferred:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
        if deferred:
            raise KeyboardInterrupt
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _importing(frame: FrameType | None) -> bool:
    """Return whether any caller of a frame is an import."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
