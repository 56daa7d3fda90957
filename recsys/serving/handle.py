"""For services that run for weeks: the current model, replaced as a whole when a new version is published."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from pathlib import Path
from types import TracebackType

from recsys.artifacts import versions
from recsys.errors import ArtifactError, ConfigError, RecsysError
from recsys.serving.recommender import Recommender

log = logging.getLogger(__name__)


class RecommenderHandle:
    """Holds the current version of a bundle root, and swaps it when the pointer names another.

        with RecommenderHandle("artifacts/shop") as handle:
            recommender = handle.recommender  # once a request
            recommender.recommend("u383")

    Every `interval` seconds a thread of the handle looks for a new version, loads it, checks it and tries it out, while
    the old one answers. If that fails, the old one stays, `last_error` says why, and the new one is tried again only
    when the pointer or one of its files has changed. A request that takes `recommender` once is answered by one
    version. In a forked child the handle watches on, with a thread of the child's own.

    Args:
        root: The bundle root.
        interval: Seconds between two looks, above 0.

    Raises:
        ConfigError: `interval` is not above 0.
    """

    def __init__(self, root: str | Path, *, interval: float = 1.0) -> None:
        if not interval > 0:
            raise ConfigError(
                f"a handle looks for new versions every so many seconds, above 0, and was given {interval}"
            )
        self._root, self._interval = Path(root), interval
        self._recommender: Recommender | None = None
        self._last_error: Exception | None = None
        self._tried: object = None  # the fingerprint of the version that was loaded last, or tried to
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def recommender(self) -> Recommender:
        """The current model, whole and read-only. Raises `ArtifactError` unless `ready`."""
        if self._recommender is None:
            raise ArtifactError(f"the handle of {self._root} holds no model: start it, or use it in a `with` block")
        return self._recommender

    @property
    def ready(self) -> bool:
        """Whether a model is loaded, checked and warm."""
        return self._recommender is not None

    @property
    def last_error(self) -> Exception | None:
        """Why the version that the pointer names is not served; None while it is."""
        return self._last_error

    def start(self) -> RecommenderHandle:
        """Load the current version, then watch. Raises `ArtifactError` as `Recommender.load` does."""
        if self._thread is None:
            self._tried = versions.fingerprint(self._root)
            self._recommender = Recommender.load(self._root)
            self._start_watching()
        return self

    def _start_watching(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"recsys {self._root}", daemon=True)
        self._thread.start()
        _HANDLES.add(self)

    def watch_in_child(self) -> None:
        """Watch again in a forked child, where the parent's thread does not run."""
        if self._thread is not None:
            self._tried = None  # the parent may have been loading a version: look again
            self._start_watching()

    def close(self) -> None:
        """Stop watching and drop the model; requests that hold it finish."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = self._recommender = self._last_error = None

    def __enter__(self) -> RecommenderHandle:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._look()
            except Exception as error:  # whatever is wrong with a new version, the old one goes on answering
                self._last_error = error
                message = "%s goes on with version %s; the new one is not served: %s"
                log.warning(message, self._root, self.recommender.version, error,
                            exc_info=None if isinstance(error, RecsysError) else error)  # fmt: skip

    def _look(self) -> None:
        fingerprint = versions.fingerprint(self._root)
        if fingerprint == self._tried:
            return
        self._tried = fingerprint
        serving = self.recommender
        if versions.current_version(self._root) != serving.version:
            serving = Recommender.load(self._root)
            log.info("%s: now serving version %s", self._root, serving.version)
        self._last_error = None  # first: who sees the new version must not see the old one's error
        self._recommender = serving


_HANDLES: weakref.WeakSet[RecommenderHandle] = weakref.WeakSet()


def _watch_in_child() -> None:
    for handle in list(_HANDLES):
        handle.watch_in_child()


os.register_at_fork(after_in_child=_watch_in_child)
