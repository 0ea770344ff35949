"""What the executor knows of a tool, wherever it comes from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from google.protobuf import struct_pb2

from parley.v1 import live_pb2, tools_pb2
from services.tools.context import ToolContext
from services.tools.reports import SCHEDULINGS, Scheduling

Behavior = Literal["blocking", "non_blocking"]
Compensate = Callable[[dict[str, Any], Any, ToolContext], Any]
"""With arguments, result (None: there is none) and context of the call that is to be undone."""

MAX_DESCRIPTION_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
BEHAVIORS: Final[dict[str | None, live_pb2.ToolBehavior]] = {
    None: live_pb2.TOOL_BEHAVIOR_UNSPECIFIED,
    "blocking": live_pb2.TOOL_BEHAVIOR_BLOCKING,
    "non_blocking": live_pb2.TOOL_BEHAVIOR_NON_BLOCKING,
}


class DeclarationError(Exception):
    """Something that cannot be a tool; the message says why."""


def check_name(name: object) -> str:
    """The name, if a tool may have it. DeclarationError."""
    # Empty parts between dots would make no NATS subject.
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not all(name.split(".")):
        raise DeclarationError(
            f"the name {name!r} is not allowed: a letter or _, then up to 63 letters, digits, _ . -"
            " (no dot at the end, none after another)"
        )
    return name


@dataclass(frozen=True, kw_only=True)
class Tool(ABC):
    """Something that a model can call."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of the arguments, an object."""
    timeout: timedelta | None
    """Longest time it may run; None: the service's default."""
    idempotent: bool
    behavior: Behavior | None
    site: str
    """Where it comes from, for people."""
    is_async: bool
    """What `bind` returns is to be awaited on the event loop; otherwise it is called in a thread."""
    scheduling: Scheduling | None = None
    """When the model is to speak of its results, unless it says otherwise itself; None: the model's default."""
    reports: bool = False
    """It may say how far it is, and give partial results."""
    compensate: Compensate | None = None
    """Undoes what a call did; None: nothing does."""
    max_concurrency: int | None = None
    """Calls of it that run at once in one process; None: the service's limit of a tool."""
    tenants: frozenset[str] = frozenset()
    """Tenants for whom it exists; empty: everybody."""

    @abstractmethod
    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], Any]:
        """The call, ready to be made once. ArgumentsError when the arguments do not fit."""

    def permits(self, tenant: str) -> bool:
        """Whether it exists for a tenant; "" is nobody's."""
        return not self.tenants or tenant in self.tenants

    def hide(self, text: str) -> str:
        """The text as anybody may read it: without the secrets of the tool's source."""
        return text

    def unavailable(self) -> str:
        """Why it cannot be called at the moment; empty when it can."""
        return ""

    def declaration(self, default_timeout: timedelta) -> tools_pb2.Tool:
        """As the catalog holds it."""
        parameters = struct_pb2.Struct()
        parameters.update(self.parameters)
        message = tools_pb2.Tool(
            declaration=live_pb2.FunctionDeclaration(
                name=self.name,
                description=self.description,
                parameters=parameters,
                behavior=BEHAVIORS[self.behavior],
            ),
            idempotent=self.idempotent,
            scheduling=SCHEDULINGS[self.scheduling],
            reports=self.reports,
            compensates=self.compensate is not None,
            tenants=sorted(self.tenants),
        )
        message.timeout.FromTimedelta(self.timeout or default_timeout)
        return message
