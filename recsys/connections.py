"""Connection strings: written as `env:NAME`, resolved where they are used, and never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from recsys.errors import ConfigError, RecsysError

ENV = re.compile(r"env:([A-Za-z_]\w*)")
HIDDEN = "***"
SECRET = "secret"  # the type of a problem whose value must not be shown
MOST_SAID = 300  # characters of a library's message
_USER_INFO = re.compile(r"://[^\s'\"]*@")
_SECRET_PAIR = re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|secret|token|key))\s*=\s*(?:'[^']*'|[^\s&'\"]+)")


def redact(text: str) -> str:
    """Hide what may be a password in any text: all before the `@` of a URL, and values such as `password=…`."""
    return _SECRET_PAIR.sub(rf"\1={HIDDEN}", _USER_INFO.sub(f"://{HIDDEN}@", text))


def check_connection(text: str) -> str:
    """Accept `env:NAME`, or a URL that holds no password.

    Raises:
        PydanticCustomError: a password is written out, or the text is neither. The message does not hold the text.
    """
    if ENV.fullmatch(text):
        return text
    if redact(text) != text:
        raise PydanticCustomError(
            SECRET,
            "a password must not stand here: put the connection string into an environment variable, such as SHOP_DB, "
            "and write env:SHOP_DB",
        )
    if not re.match(r"[a-z][a-z0-9+.-]*:.", text):
        raise PydanticCustomError(
            SECRET, "write env:NAME, where the environment variable NAME holds the connection string, or a URL "
            "without a password, such as sqlite:shop.db"
        )  # fmt: skip
    return text


ConnectionName = Annotated[str, AfterValidator(check_connection)]


@dataclass(frozen=True)
class Connection:
    """A connection string and how it is called.

    Attributes:
        name: As a config or a command writes it: `env:SHOP_DB`, or a URL without a password.
        url: The connection string itself.
    """

    name: str
    url: str = field(repr=False)

    @classmethod
    def resolve(cls, name: str) -> Connection:
        """Look the connection string up.

        Raises:
            ConfigError: the environment variable is not set, or a password is written out.
        """
        try:
            check_connection(name)
        except PydanticCustomError as error:
            raise ConfigError(error.message()) from None
        found = ENV.fullmatch(name)
        if found is None:
            return cls(name, name)
        url = os.environ.get(found[1], "").strip()
        if not url:
            raise ConfigError(
                f"{name}: the environment variable {found[1]} is not set; it should hold a connection string, such as "
                "postgresql://USER:PASSWORD@HOST/DATABASE"
            )
        return cls(name, url)

    @property
    def scheme(self) -> str:
        """What stands before the first colon, in lower case: `postgresql`."""
        return self.url.partition(":")[0].lower()

    @property
    def is_secret(self) -> bool:
        """Whether it comes from the environment: then no part of it is shown."""
        return self.url != self.name

    def hide(self, text: str) -> str:
        """Return the first line of a library's message without any part of the connection string."""
        line = next(iter(text.strip().splitlines()), "").strip()
        if self.is_secret:
            for part in self._parts():
                line = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", HIDDEN, line)
        return redact(line)[:MOST_SAID]

    def _parts(self) -> list[str]:
        """The connection string and what it consists of, decoded or not, the longest first."""
        parts = {self.url}
        try:
            split = urlsplit(self.url)
            parts |= {split.netloc, split.path.lstrip("/"), split.query, split.username or "", split.password or ""}
            parts |= {split.hostname or "", str(split.port or ""), *(value for _, value in parse_qsl(split.query))}
        except ValueError:  # not a URL: libpq's `host=… password=…`
            pass
        parts |= set(re.findall(r"=\s*'?([^\s'&]+)", self.url))
        parts |= {unquote(part) for part in parts}
        return sorted((part for part in parts if part), key=len, reverse=True)

    @contextmanager
    def errors(self, kind: type[RecsysError], what: str) -> Iterator[None]:
        """Turn whatever a library raises into one sentence of ours, without any part of the connection string.

        Args:
            kind: The class of the error.
            what: What was tried, as in `orders cannot be read`.
        """
        try:
            yield
        except RecsysError:
            raise
        except Exception as error:  # whatever a driver raises, and its text may hold the connection string
            said = self.hide(str(error)) or type(error).__name__
            raise kind(f"{self.name}: {what}: {said}") from None
