"""Secrets: where they are read from, and how they are kept out of everything that anybody reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: set[str] = set()

    def resolve(self, value: str | SecretRef) -> str:
        """A plain text as it is, a secret with its prefix; from now on it is hidden. SourceError."""
        if isinstance(value, str):
            return value
        secret = value.read(self._folder)
        if "\r" in secret or "\n" in secret:
            raise SourceError(f"the secret of {value.env or value.file} has more than one line")
        if len(secret) >= _SHORTEST:
            # Also as it looks inside JSON.
            self._found |= {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        return value.prefix + secret

    def hide(self, text: str) -> str:
        """The text without any of the secrets."""
        for secret in sorted(self._found, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def hide_in(self, value: Any) -> Any:
        """A JSON value without any of the secrets: servers do send back what they were sent."""
        if not self._found:
            return value
        text = json.dumps(value, ensure_ascii=False)
        hidden = self.hide(text)
        return value if hidden == text else json.loads(hidden)
