"""What the upgrade request says: which endpoint it dials and how it identifies itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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

WRONG_KEY = "API key not valid. Please pass a valid API key."
NO_KEY = (
    "Method doesn't allow unregistered callers (callers without established identity). "
    "Please use API Key or other form of API consumer identity to call this API."
)


@dataclass(frozen=True)
class Endpoint:
    """What a path names."""

    backend: Literal["developer", "vertex"]
    api_version: str
    constrained: bool = False
    """Whether it is the method for ephemeral tokens."""


def endpoint(path: str) -> Endpoint | None:
    """The endpoint that ``path`` (without query) names, with any prefix and any number of slashes; else None."""
    path = re.sub(r"/{2,}", "/", path)
    if found := _DEVELOPER.search(path):
        return Endpoint("developer", found.group(1), found.group(2).endswith("Constrained"))
    if found := _VERTEX.search(path):
        return Endpoint("vertex", found.group(1))
    return None


def credential(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The key or token, wherever the client put it; headers go before the query. None when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    candidates = (
        token.strip() if scheme.lower() in ("token", "bearer") else "",
        headers.get("x-goog-api-key", "").strip(),
        query.get("key", "").strip(),
        query.get("access_token", "").strip(),
    )
    return next((candidate for candidate in candidates if candidate), None)


def authorise(given: str | None, accepted: frozenset[str]) -> Refusal | None:
    """Why ``given`` is refused, or None. Without ``accepted`` any credential will do."""
    if given is None:
        return Refusal(1008, NO_KEY)
    if accepted and given not in accepted:
        return Refusal(1007, WRONG_KEY)
    return None


def wishes(headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
    """What the client wants of the emulator itself: headers, or query parameters of the same names."""
    named = {name: headers.get(name) or query.get(name) for name in (CONVERSATION, SCENARIO, SWITCHES, FAULTS)}
    return {name: value for name, value in named.items() if value}


def valid_conversation_id(value: str) -> bool:
    """Whether a client may name its conversation so."""
    return _CONVERSATION_ID.fullmatch(value) is not None
