"""What the upgrade request says: which endpoint it dials, how it identifies itself, what it wants of the emulator."""

import re
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from emulator import texts
from emulator.errors import Refusal

_DEVELOPER = re.compile(
    r"(?:^|/)ws/google\.ai\.generativelanguage\.(v1|v1beta|v1alpha)\.GenerativeService\."
    r"(BidiGenerateContent|BidiGenerateContentConstrained)/?$"
)
_VERTEX = re.compile(r"(?:^|/)ws/google\.cloud\.aiplatform\.(v1|v1beta1)\.LlmBidiService/BidiGenerateContent/?$")
_CONVERSATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

CONVERSATION = "x-emulator-conversation"
SCENARIO = "x-emulator-scenario"
SWITCHES = "x-emulator-switches"
FAULTS = "x-emulator-faults"
REPLAY = "x-emulator-replay"
_WISHES = (CONVERSATION, SCENARIO, SWITCHES, FAULTS, REPLAY)

TOKEN_PREFIX = "auth_tokens/"


@dataclass(frozen=True)
class Endpoint:
    """What a path names."""

    backend: Literal["developer", "vertex"]
    api_version: str
    constrained: bool = False
    """Whether it is the method for ephemeral tokens."""


def normalised(path: str) -> str:
    """``path`` with single slashes: a base URL that ends with one leads to ``//ws``."""
    return re.sub(r"/{2,}", "/", path)


def endpoint(path: str) -> Endpoint | None:
    """The endpoint that ``path`` (without query) names, with any prefix and any number of slashes; else None."""
    path = normalised(path)
    if found := _DEVELOPER.search(path):
        return Endpoint("developer", found.group(1), found.group(2).endswith("Constrained"))
    if found := _VERTEX.search(path):
        return Endpoint("vertex", found.group(1))
    return None


@dataclass(frozen=True)
class Credential:
    """A key or token, and where the client put it."""

    value: str
    form: Literal["token", "bearer", "api key", "access_token"]
    """``Authorization: Token`` or ``Bearer``; header ``x-goog-api-key`` or query ``key``; query ``access_token``."""

    @property
    def ephemeral(self) -> bool:
        """Whether it is an ephemeral token by its name."""
        return self.value.startswith(TOKEN_PREFIX)


def credential(headers: Mapping[str, str], query: Mapping[str, str]) -> Credential | None:
    """The key or token, wherever the client put it; headers go before the query. None when there is none.

    The Python SDK puts an ephemeral token into both headers, the JavaScript SDK everything into the query.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    candidates = (
        Credential(_readable(token) if scheme.lower() == "token" else "", "token"),
        Credential(_readable(token) if scheme.lower() == "bearer" else "", "bearer"),
        Credential(_readable(headers.get("x-goog-api-key", "")), "api key"),
        Credential(_readable(query.get("key", "")), "api key"),
        Credential(_readable(query.get("access_token", "")), "access_token"),
    )
    return next((candidate for candidate in candidates if candidate.value), None)


def _readable(value: str) -> str:
    """Bytes that are no text are told apart and can be kept."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").strip()


def authorise(
    given: Credential | None, accepted: Collection[str], *, tokens: Container[str], constrained: bool
) -> Refusal | None:
    """Why ``given`` is refused, or None. Without ``accepted`` any key will do; a token must be one of ``tokens``.

    Tokens are for the constrained method, and it takes nothing else. That a token on the plain method is a bad key
    where a key belongs, and no identity elsewhere, was seen on the service; the rest is our guess after it.
    """
    if given is None:
        return texts.NO_KEY.refusal()
    if constrained:
        return None if given.ephemeral and given.value in tokens else texts.NO_KEY.refusal()
    if given.ephemeral and given.form != "api key":
        return texts.NO_KEY.refusal()
    if given.ephemeral or (accepted and given.value not in accepted):
        return texts.WRONG_KEY.refusal()
    return None


def wishes(headers: Mapping[str, str], query: Mapping[str, str], path: str) -> dict[str, str]:
    """What the client wants of the emulator itself: headers, query parameters, or segments before the endpoint's path.

    The last are for who can set nothing but a base URL, like a browser: ``https://host/x-emulator-scenario=echo``.
    """
    segments = (unquote(segment).partition("=") for segment in path.split("/"))
    prefix = {name: value for name, equals, value in segments if equals}
    named = {name: headers.get(name) or query.get(name) or prefix.get(name) for name in _WISHES}
    return {name: value for name, value in named.items() if value}


def valid_conversation_id(value: str) -> bool:
    """Whether a client may name its conversation so."""
    return _CONVERSATION_ID.fullmatch(value) is not None
