"""Secrets: where they are read from, and how they are kept out of everything that anybody reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, ConfigDict, model_validator

from services.tools.sources.source import SourceError

_MAX_BYTES: Final = 64 * 1024
_SHORTEST: Final = 4
"""Characters below which a secret is not looked for in texts: it would be found everywhere."""
HIDDEN: Final = "[secret]"


class SecretRef(BaseModel):
    """Names the environment variable or the file that holds a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str = ""
    file: Path | None = None
    prefix: str = ""
    """Put before it, e.g. `Bearer `."""

    @model_validator(mode="after")
    def _one_of_both(self) -> SecretRef:
        if bool(self.env) == (self.file is not None):
            raise ValueError("expected either `env: VARIABLE` or `file: PATH`")
        return self

    def read(self, folder: Path) -> str:
        """The secret without its prefix; a relative path counts from `folder`. SourceError names what is missing."""
        if self.file is None:
            value = os.environ.get(self.env, "")
            if not value:
                raise SourceError(f"the environment variable {self.env} is not set")
            return value
        path = folder / self.file
        try:
            with path.open("rb") as stream:
                value = stream.read(_MAX_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not text"
            raise SourceError(f"the secret in {path} cannot be read: {reason}") from None
        if not value:
            raise SourceError(f"the secret in {path} is empty")
        return value


class Secrets:
    """The secrets of one source."""

    _of_all: ClassVar[tuple[str, ...]] = ()
    """Those of every source of the process. A log is one for all, and its lines come from anywhere."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: tuple[str, ...] = ()
        """As they may look in a text, the longest first."""

    def resolve(self, value: str | SecretRef, *, lines: bool = False) -> str:
        """A plain text as it is, a secret with its prefix; from now on it is hidden. `lines`: it may have several.
        SourceError."""
        if isinstance(value, str):
            return value
        secret = value.read(self._folder)
        if not lines and ("\r" in secret or "\n" in secret):
            raise SourceError(f"the secret of {value.env or value.file} has more than one line")
        if len(secret) >= _SHORTEST:
            # Also as it looks inside JSON, as Python shows it, and in an address.
            forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
            forms |= {quote(secret), quote(secret, safe=""), quote_plus(secret)}
            self._found = _longest_first({*self._found, *forms})
            Secrets._of_all = _longest_first({*Secrets._of_all, *forms})
        return value.prefix + secret

    def hide(self, text: str) -> str:
        """The text without any of the secrets."""
        return _without(self._found, text)

    @classmethod
    def hide_all(cls, text: str) -> str:
        """The text without the secrets of any source of this process."""
        return _without(cls._of_all, text)


def _longest_first(texts: set[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=len, reverse=True))


def _without(secrets: tuple[str, ...], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text
