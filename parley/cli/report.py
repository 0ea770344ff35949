"""What a conversation came to: the document that `parley talk --json` prints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from parley import errors, events
from parley.audit import AuditResult
from parley.cli.conversation import Exchange


@dataclass
class Sent:
    """What left, as the other end can check it."""

    audio_bytes: int = 0
    audio_sha256: str = ""
    """Of all PCM in order, silence included."""
    frames: int = 0
    texts: list[str] = field(default_factory=list)
    video: list[str] = field(default_factory=list)
    """SHA-256 of each picture, in order."""


@dataclass
class TalkReport:
    """Result of one conversation."""

    session_id: str = ""
    trace_id: str = ""
    sent: Sent = field(default_factory=Sent)
    exchanges: list[Exchange] = field(default_factory=list)
    audio_seconds: float = 0.0
    """Speech of the model that came."""
    played_seconds: float = 0.0
    """Speech of the model that a listener heard; what was interrupted is not in it."""
    interrupted: int = 0
    resumes: int = 0
    """How often another stream took the place of one that was lost."""
    undelivered: list[events.Undelivered] = field(default_factory=list)
    """What the service could not be brought any more after such a loss."""
    open_ms: float | None = None
    sequence: AuditResult | None = None
    ended: str = ""
    """Reason that the service gave; empty when it gave none."""
    outcome: str = "failed"
    """`completed`, `no_answer`, `timeout`, `ended_early` or `failed`."""
    error: str = ""
    what_to_do: str = ""
    failure: errors.ParleyError | None = None
    """The error of the call, where one ended it."""
    reply: bytes = field(default=b"", repr=False)
    """What a listener heard: PCM at 24 kHz with silence where nothing played."""

    @property
    def ok(self) -> bool:
        """The conversation went as wished and its sequence numbers are whole."""
        return self.outcome == "completed" and self.sequence is not None and self.sequence.whole

    @property
    def tools(self) -> list[dict[str, Any]]:
        """What the tools service did, in order."""
        return [
            {
                "call_id": tool.call_id,
                "name": tool.name,
                "arguments": tool.arguments,
                "outcome": tool.outcome,
                "message": tool.message,
                "duration_ms": None if tool.duration is None else round(tool.duration.total_seconds() * 1000, 1),
            }
            for exchange in self.exchanges
            for tool in exchange.tools
        ]

    def fail(self, outcome: str, error: str, what_to_do: str = "") -> None:
        """Notes why it did not go as wished; the first reason stays."""
        if not self.error:
            self.outcome, self.error, self.what_to_do = outcome, error, what_to_do

    def failed_by(self, error: errors.ParleyError) -> None:
        """Notes an error of the call."""
        self.fail("failed", str(error), error.what_to_do)
        self.failure = self.failure or error

    def document(self) -> dict[str, Any]:
        """For `--json`: plain values only."""
        return {
            "session_id": self.session_id,
            "sent": asdict(self.sent),
            "received": {
                "audio_seconds": round(self.audio_seconds, 3),
                "played_seconds": round(self.played_seconds, 3),
                "transcripts": {
                    "in": [exchange.heard.strip() for exchange in self.exchanges],
                    "out": [exchange.answer.strip() for exchange in self.exchanges],
                },
                "tools": self.tools,
                "interrupted": self.interrupted,
                "turns": sum(exchange.turns for exchange in self.exchanges),
            },
            "latencies": {
                "open_ms": _rounded(self.open_ms),
                "first_audio_ms": [_rounded(exchange.first_audio_ms) for exchange in self.exchanges],
            },
            "sequence": _sequence(self.sequence),
            "stream": {
                "resumes": self.resumes,
                "undelivered": [
                    {
                        "media_class": lost.media_class,
                        "reason": lost.reason,
                        "messages": lost.messages,
                        "audio_seconds": round(lost.audio.total_seconds(), 3),
                    }
                    for lost in self.undelivered
                ],
            },
            "trace_id": self.trace_id,
            "ended": self.ended,
            "outcome": self.outcome,
            **({"error": self.error, "what_to_do": self.what_to_do} if self.error else {}),
        }


def _sequence(result: AuditResult | None) -> dict[str, Any]:
    if result is None:
        return {"whole": False, "holes": [], "duplicates": 0, "out_of_order": 0, "last_seq": 0, "gaps": []}
    return {
        "whole": result.whole,
        "holes": _pairs(result.holes),
        "duplicates": result.duplicates,
        "out_of_order": result.out_of_order,
        "last_seq": result.last_seq,
        "gaps": [
            {
                "direction": gap.direction,
                "from_seq": gap.from_seq,
                "to_seq": gap.to_seq,
                "media_class": gap.media_class,
                "reason": gap.reason,
            }
            for gap in result.gaps
        ],
    }


def _pairs(ranges: Sequence[tuple[int, int]]) -> list[list[int]]:
    return [list(pair) for pair in ranges]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
