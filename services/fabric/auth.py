"""Who calls. API keys are kept as hashes only and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from parley.v1 import errors_pb2
from services.fabric import yaml_file
from services.fabric.errors import ServiceError

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_FIELDS = {"tenant", "principal", "sha256"}
_OPERATOR = "operator"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller."""

    tenant: str
    principal: str
    operator: bool = False
    """It may drain workers, which serve every tenant."""


DEVELOPER = Identity("dev", "anonymous", operator=True)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, by its hash."""

    digest: bytes
    identity: Identity


def load_keys(path: Path) -> list[ApiKey]:
    """Read the keys file. ConfigurationError names file, line and reason."""
    root = yaml_file.load(path)
    listed = root.items.get("keys")
    if listed is None or not listed.is_sequence or len(root.items) != 1:
        raise root.problem("expected one key, `keys`, with a list")
    keys: list[ApiKey] = []
    for entry in listed.elements:
        if not entry.is_mapping or set(entry.items) - {_OPERATOR} != _FIELDS:
            raise entry.problem("expected the keys `tenant`, `principal` and `sha256`, and perhaps `operator`")
        for name in ("tenant", "principal"):
            if not isinstance(entry.plain[name], str) or not _NAME.match(entry.plain[name]):
                raise entry.problem(f"`{name}` must match {_NAME.pattern}", name)
        digest = entry.plain["sha256"]
        if not isinstance(digest, str) or not _DIGEST.match(digest):
            raise entry.problem("`sha256` must be the hex digest of the key: 64 lower-case characters", "sha256")
        if any(key.digest == bytes.fromhex(digest) for key in keys):
            raise entry.problem("this `sha256` stands here twice", "sha256")
        operator = entry.plain.get(_OPERATOR, False)
        if not isinstance(operator, bool):
            raise entry.problem("`operator` must be true or false", _OPERATOR)
        keys.append(ApiKey(bytes.fromhex(digest), Identity(entry.plain["tenant"], entry.plain["principal"], operator)))
    return keys


class Authenticator:
    """Tells who a caller is from the metadata of its call."""

    def __init__(self, keys: list[ApiKey], *, development: bool) -> None:
        self._keys = keys
        self._development = development

    def identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Identity:
        """The caller; ServiceError CREDENTIAL_INVALID when it is nobody."""
        presented = _presented(metadata)
        if not presented and self._development:
            return DEVELOPER
        digest = hashlib.sha256(presented.encode()).digest()
        found: Identity | None = None
        for key in self._keys:  # every key, also after a match: the time taken says nothing
            if hmac.compare_digest(key.digest, digest):
                found = key.identity
        if not presented or found is None:
            raise ServiceError(
                errors_pb2.ERROR_REASON_CREDENTIAL_INVALID,
                "send a known API key as metadata `authorization: Bearer KEY` or `x-parley-api-key: KEY`",
            )
        return found


def _presented(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    found = ""
    for name, value in metadata:
        if not isinstance(value, str):
            continue
        if name == "x-parley-api-key":
            return value
        if name == "authorization" and value.lower().startswith(_BEARER):
            found = value[len(_BEARER) :].strip()
    return found
