"""Ephemeral tokens: what each allows, how often and for how long. No I/O; time is an argument, in seconds of one clock.

Sources: the API reference on ``AuthToken`` (uses, both times, how the field mask merges), the Python SDK's
``tokens.py`` and the JavaScript SDK's ``tokens.ts`` (what is sent).
"""

import copy
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from emulator import models, texts
from emulator.actions import Action
from emulator.api.protocol import Event
from emulator.api.protojson import Kind, camel, parse
from emulator.endpoint.handshake import TOKEN_PREFIX
from emulator.errors import Refusal, invalid

DEFAULT_LIFE = timedelta(minutes=30)
DEFAULT_NEW_SESSIONS = timedelta(seconds=60)
LONGEST = timedelta(hours=20)

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")


class TokensFullError(Exception):
    """There are as many tokens as may be, and none has expired."""


@dataclass(frozen=True)
class Grant:
    """What a token allows."""

    uses: int
    """New sessions; 0 is without limit."""
    expires: float
    """From then on no message is taken."""
    new_sessions_until: float
    setup: dict[str, Any] | None = None
    """What is locked, parsed like a client's setup; None locks nothing by itself."""
    mask: tuple[tuple[str, ...], ...] = ()
    """Camel case paths into the setup. Empty with a setup: all of it is locked."""


@dataclass
class Token:
    """A grant that was given out."""

    name: str
    grant: Grant
    key: str = ""
    """What it was made with."""
    used: int = 0

    @property
    def used_up(self) -> bool:
        """Whether it has started as many sessions as it may."""
        return 0 < self.grant.uses <= self.used

    def expired(self, now: float) -> bool:
        """Whether no message is taken any more."""
        return now >= self.grant.expires

    def closed(self, now: float) -> bool:
        """Whether it is too late for a new session."""
        return now >= self.grant.new_sessions_until

    def check(self, now: float, *, resuming: bool) -> None:
        """Raise :class:`emulator.errors.Refusal` unless a session may begin, or be resumed, with it."""
        if self.expired(now):
            raise texts.TOKEN_EXPIRED.refusal()
        if not resuming and self.closed(now):
            raise texts.TOKEN_TOO_LATE.refusal()
        if not resuming and self.used_up:
            raise texts.TOKEN_USED_UP.refusal()

    def use(self, *, resuming: bool) -> None:
        """A session has begun, or gone on, which is not counted."""
        if not resuming:
            self.used += 1


class TokenStore:
    """A bounded number of tokens. Expired ones stay until their place is wanted, so that they are refused as what they
    are and not as unknown."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._tokens: dict[str, Token] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, name: object) -> bool:
        return name in self._tokens

    def project(self, name: str) -> str:
        """The key that the token was made with, which also stands for its project; empty for an unknown token."""
        token = self._find(name)
        return token.key if token else ""

    def issue(self, grant: Grant, now: float, *, key: str = "") -> Token:
        """A new token with an unguessable name, made with ``key``. Raises :class:`TokensFullError`."""
        # 64 hexadecimal digits, like the service's.
        token = Token(TOKEN_PREFIX + secrets.token_hex(32), grant, key)
        self._keep(token, now)
        return token

    def apply(self, name: str, setup: dict[str, Any], now: float) -> tuple[Token, dict[str, Any]]:
        """The token and the setup that counts with it; costs no use yet. Raises :class:`emulator.errors.Refusal`."""
        token = self._find(name)
        if token is None:
            raise texts.NO_KEY.refusal()
        effective = constrained(setup, token.grant)
        token.check(now, resuming=resumes(effective))
        try:
            models.find(effective.get("model", ""), "")
        except Refusal:
            raise texts.TOKEN_MODEL.refusal() from None
        return token, effective

    def _find(self, name: str) -> Token | None:
        return self._tokens.get(name)

    def _keep(self, token: Token, now: float) -> None:
        if len(self._tokens) >= self._limit:
            self._tokens = {name: token for name, token in self._tokens.items() if not token.expired(now)}
            if len(self._tokens) >= self._limit:
                raise TokensFullError
        self._tokens[token.name] = token


def resumes(setup: dict[str, Any]) -> bool:
    """Whether a setup continues an earlier session."""
    return bool(setup.get("sessionResumption", {}).get("handle"))


def constrained(setup: dict[str, Any], grant: Grant) -> dict[str, Any]:
    """The setup that counts: the client's, with what the token locks in its place. Neither argument is changed.

    Without a mask a token's setup replaces the client's; with one, the masked fields are the token's (absent where the
    token has none) and the rest is the client's. Two things that the reference does not say are left to the client,
    since nothing works without them: the model where a token names none, the handle where it allows resumption.
    """
    locked = grant.setup or {}
    if grant.mask:
        effective = copy.deepcopy(setup)
        for path in grant.mask:
            _overwrite(effective, locked, path)
    elif grant.setup is None:
        return setup
    else:
        effective = copy.deepcopy(locked)
        if "model" in setup:
            effective.setdefault("model", setup["model"])
    if resumes(setup) and "sessionResumption" in effective and not resumes(effective):
        effective["sessionResumption"]["handle"] = setup["sessionResumption"]["handle"]
    return effective


def _overwrite(target: dict[str, Any], source: dict[str, Any], path: tuple[str, ...]) -> None:
    name, rest = path[0], path[1:]
    if not rest:
        target.pop(name, None)
        if name in source:
            target[name] = copy.deepcopy(source[name])
        return
    inner = _message(target.get(name))
    _overwrite(inner, _message(source.get(name)), rest)
    # An empty message can mean something (sessionResumption), so none is made where there was none.
    if inner or name in target:
        target[name] = inner


def _message(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read(body: Any, setup: Kind, *, now: float, wall: datetime, scale: float) -> Grant:
    """The grant that a creation request asks for; ``setup`` is the kind of a setup in this version of the API.

    ``wall`` is what time it is, ``scale`` how much faster than that tokens age. Raises :class:`emulator.errors.Refusal`
    1007 with the text of the API's error.
    """
    kind = {
        "name": "string",
        "uses": "int",
        "expireTime": "string",
        "newSessionExpireTime": "string",
        "fieldMask": "string",
        "bidiGenerateContentSetup": setup,
    }
    wanted = parse(body, kind, "auth_token")
    uses = wanted.get("uses", 1)
    if uses < 0:
        raise invalid(f"uses must be 0 (no limit) or more, not {uses}")

    def until(field: str, name: str, default: timedelta) -> float:
        life = _time(wanted[field], name) - wall if field in wanted else default
        if not timedelta(0) < life < LONGEST:
            raise invalid(f"{name} must be in the future and less than 20 hours in the future")
        return now + life.total_seconds() / scale

    return Grant(
        uses=uses,
        expires=until("expireTime", "expire_time", DEFAULT_LIFE),
        new_sessions_until=until("newSessionExpireTime", "new_session_expire_time", DEFAULT_NEW_SESSIONS),
        setup=wanted.get("bidiGenerateContentSetup"),
        mask=tuple(_path(path, setup) for path in wanted.get("fieldMask", "").split(",") if path.strip()),
    )


def _time(text: str, name: str) -> datetime:
    if _TIMESTAMP.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper())
        except ValueError:
            pass  # a thirteenth month and the like
    raise invalid(
        f"Invalid value at 'auth_token.{name}' (type.googleapis.com/google.protobuf.Timestamp), Field '{name}', "
        "Illegal timestamp format; timestamps must end with 'Z' or have a valid timezone offset."
    )


def _path(text: str, kind: Kind) -> tuple[str, ...]:
    """A path of a field mask, in either spelling, in camel case. It cannot go through a list."""
    names = tuple(camel(name.strip()) for name in text.split("."))
    inner: Any = kind
    for name in names:
        if inner in ("json", "struct"):
            break
        if not isinstance(inner, dict) or name not in inner:
            raise invalid(f"Invalid value at 'auth_token.field_mask': '{text.strip()[:80]}' is not a path of the setup")
        inner = inner[name]
    return names


class Expiry:
    """The part of a link that ends it when its token expires."""

    def __init__(self, expires: float) -> None:
        self._expires = expires

    @property
    def deadline(self) -> float:
        """When the token expires."""
        return self._expires

    def apply(self, _event: Event, now: float) -> list[Action]:
        """A client message, refused from then on."""
        return self.tick(now)

    def tick(self, now: float) -> list[Action]:
        """Raise :class:`emulator.errors.Refusal` once the token has expired."""
        if now >= self._expires:
            raise texts.TOKEN_EXPIRED.refusal()
        return []

    def passing(self, action: Action, _now: float) -> list[Action]:
        """What others want done is not changed."""
        return [action]
