"""Takes secrets out of what is recorded. What is replaced keeps one name, so that a recording still makes sense.

A key becomes ``key-1``, an ephemeral token ``auth_tokens/token-1``, a resumption handle ``handle-1``: the same value
has the same name wherever it stands, in either direction and in every connection of a recording.
"""

import re
from collections import Counter, OrderedDict
from typing import Any
from urllib.parse import quote, unquote_plus

from emulator.api.protojson import camel
from emulator.endpoint.handshake import TOKEN_PREFIX
from emulator.tape.captured import Headers

REMOVED = "removed"
"""Stands for what has no use in a recording, like cookies."""

# Shorter ones are only replaced where they stand alone: nobody's real key, and too likely a part of other words.
_LEAST_SOUGHT = 8
# No field of the API is longer; names beyond are a caller's own, like the keys of a function's arguments.
_LONGEST_FIELD_NAME = 40
_MAX_DEPTH = 100
_NAMES_KEPT = 20_000
_SOUGHT_KEPT = 256

_NAMED_SECRETS = re.compile(r"api-?key|auth|cookie|credential|passw|secret|token|jwt|signature", re.IGNORECASE)
# The request's own negotiation; new for every connection and of no use in a recording.
_DROPPED = frozenset({"host", "sec-websocket-key", "sec-websocket-accept"})
_SECRET_PARAMETERS = frozenset({"key", "access_token"})
# What REST bodies call credentials. Frames are not searched for these: there they are a tool's arguments.
_SECRET_FIELDS = frozenset(
    {"accessToken", "apiKey", "clientSecret", "idToken", "password", "privateKey", "refreshToken", "token"}
)
# Ephemeral tokens, API keys and OAuth tokens of Google's, wherever they stand.
_RECOGNISED = re.compile(
    rf"(?P<token>{TOKEN_PREFIX}(?!token-\d+\b)[\w.~%-]+)|(?P<key>\bAIza[\w-]{{35}})|(?P<bearer>\bya29\.[\w.-]+)"
)


class Scrubber:
    """Replaces secrets, and remembers a bounded number of them: the least recently seen is forgotten first."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, str] = OrderedDict()
        self._sought: OrderedDict[str, None] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def headers(self, headers: Headers) -> dict[str, str]:
        """By name, repeated ones joined with commas; without those that only concern one hop of one connection."""
        clean: dict[str, str] = {}
        for name, value in headers:
            if name.lower() in _DROPPED:
                continue
            scrubbed = self._header(name.lower(), value)
            clean[name] = f"{clean[name]}, {scrubbed}" if name in clean else scrubbed
        return clean

    def path(self, path: str) -> str:
        """A path with its query, in the order that it had."""
        place, mark, query = path.partition("?")
        parameters = []
        for parameter in query.split("&") if mark else ():
            name, equals, value = parameter.partition("=")
            if equals and (name in _SECRET_PARAMETERS or _NAMED_SECRETS.search(name)):
                parameters.append(f"{name}={quote(self.credential(unquote_plus(value)), safe='/')}")
            else:
                parameters.append(self.text(parameter))
        return self.text(place) + mark + "&".join(parameters)

    def credential(self, value: str) -> str:
        """The name of a key or token."""
        if value.startswith(TOKEN_PREFIX):
            return self._name(value, TOKEN_PREFIX + "token")
        return self._name(value, "key")

    def handle(self, value: str) -> str:
        """The name of a resumption handle."""
        return self._name(value, "handle")

    def text(self, value: str) -> str:
        """Text with the secrets that are known, or that look like one, replaced."""
        if len(value) < _LEAST_SOUGHT:
            return value
        if value in self._names:
            return self._name(value, "")
        for secret in self._sought:
            if secret in value:
                value = value.replace(secret, self._names[secret])
        return _RECOGNISED.sub(lambda found: self._name(found.group(), self._prefix(found)), value)

    def json(self, value: Any, *, credentials: bool = False) -> Any:
        """A copy of a JSON value without secrets; ``credentials`` also searches the fields that REST bodies have.

        Raises RecursionError for what is nested deeper than any message.
        """
        return self._value(value, ("", ""), credentials, 0)

    def _value(self, value: Any, fields: tuple[str, str], credentials: bool, depth: int) -> Any:
        """``fields`` are the names, in camel case, of the object that ``value`` is in, and of its own field there."""
        if depth > _MAX_DEPTH:
            raise RecursionError
        parent, field = fields
        if isinstance(value, dict):
            blob = is_blob(value)
            return {
                self._field_name(name): item
                if blob and name == "data"
                else self._value(item, (field, camel(name)), credentials, depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._value(item, fields, credentials, depth + 1) for item in value]
        if not isinstance(value, str) or not value:
            return value
        if is_handle(field, parent):
            return self.handle(value)
        if credentials and field in _SECRET_FIELDS:
            return self.credential(value)
        return self.text(value)

    def _field_name(self, name: str) -> str:
        return self.text(name) if len(name) > _LONGEST_FIELD_NAME else name

    def _header(self, name: str, value: str) -> str:
        if name in ("authorization", "proxy-authorization"):
            scheme, space, credential = value.strip().partition(" ")
            return f"{scheme} {self.credential(credential.strip())}" if space else self.credential(scheme)
        if name == "x-goog-api-key":
            return self.credential(value.strip())
        return REMOVED if _NAMED_SECRETS.search(name) else self.text(value)

    @staticmethod
    def _prefix(found: re.Match[str]) -> str:
        return TOKEN_PREFIX + "token" if found.lastgroup == "token" else str(found.lastgroup)

    def _name(self, secret: str, prefix: str) -> str:
        if not secret:
            return secret
        name = self._names.get(secret)
        if name is None:
            self._counts[prefix] += 1
            name = self._names[secret] = f"{prefix}-{self._counts[prefix]}"
            if len(self._names) > _NAMES_KEPT:
                forgotten, _ = self._names.popitem(last=False)
                self._sought.pop(forgotten, None)
        self._names.move_to_end(secret)
        if len(secret) >= _LEAST_SOUGHT:
            self._sought[secret] = None
            self._sought.move_to_end(secret)
            if len(self._sought) > _SOUGHT_KEPT:
                self._sought.popitem(last=False)
        return name


def is_blob(value: dict[str, Any]) -> bool:
    """Whether an object of a message holds bytes: base64 that is no text to search, and that may be cut."""
    return isinstance(value.get("data"), str) and any(camel(name) == "mimeType" for name in value)


def is_handle(field: str, parent: str) -> bool:
    """Whether a field (in camel case) of an object in ``parent`` holds a resumption handle."""
    return field == "newHandle" or (field == "handle" and camel(parent) == "sessionResumption")
