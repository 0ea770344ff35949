"""Parley's client: Gemini Live conversations over one gRPC stream.

    async with parley.connect("gateway:443", profile="support") as session:
        await session.send_text("Where is my order 4711?")
        async for event in session:
            ...

What is exported here is public. `parley.events`, `parley.errors`, `parley.audio`, `parley.audit` and `parley.playout`
are public modules, `parley.v1` holds the generated stubs; modules with a leading underscore may change in any release.
"""

from parley import audio, errors, events
from parley._connect import connect
from parley._session import Resume, Session, SessionStats
from parley._version import __version__
from parley.audit import SequenceAudit
from parley.errors import ParleyError
from parley.playout import Playout, PlayoutQueue, PlayoutStats
from parley.v1.live_pb2 import Content, ConversationLog, FunctionDeclaration, Part, SessionConfig

__all__ = [
    "Content",
    "ConversationLog",
    "FunctionDeclaration",
    "ParleyError",
    "Part",
    "Playout",
    "PlayoutQueue",
    "PlayoutStats",
    "Resume",
    "SequenceAudit",
    "Session",
    "SessionConfig",
    "SessionStats",
    "__version__",
    "audio",
    "connect",
    "errors",
    "events",
]
