"""What can go wrong in a call, as one small hierarchy with typed fields.

The names are those of gRPC's status codes and of `ErrorReason`, so that one search finds both sides.
"""
# ruff: noqa: N818 - see above: `NotFound` is the word of the field, `NotFoundError` is nobody's

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request."""

    field: str
    """Its path, e.g. `open.config.model`."""
    description: str
    """What is wrong with it and what would be right."""


class ParleyError(Exception):
    """A call failed. Raised itself only for a status that has no class of its own."""

    advice = "Look up the reason in the API reference of parley.v1."
    """What to do where the reason alone does not say it."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        field_violations: Sequence[FieldViolation] = (),
        retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """What happened, in one sentence, from the service where it said something."""
        self.code = code
        """Name of the gRPC status code, e.g. `NOT_FOUND`."""
        self.reason = reason
        """Name of the `ErrorReason` without its prefix, e.g. `PROFILE_UNKNOWN`; empty if the service named none."""
        self.field_violations = tuple(field_violations)
        """The wrong fields; only with `InvalidRequest`."""
        self.retry_delay = retry_delay
        """When the same call may succeed; None where time mends nothing, or nobody knows."""

    @property
    def what_to_do(self) -> str:
        """One sentence for whoever sees the error."""
        advice = _ADVICE.get(self.reason, self.advice)
        if self.retry_delay is not None:
            return f"{advice} Try again in {self.retry_delay.total_seconds():g} s."
        return advice

    def __str__(self) -> str:
        fields = "; ".join(f"{violation.field}: {violation.description}" for violation in self.field_violations)
        label = f"{self.code}/{self.reason}" if self.reason else self.code
        return f"{self.message} ({fields}) [{label}]" if fields else f"{self.message} [{label}]"


class InvalidRequest(ParleyError):
    """A message or field is wrong (INVALID_ARGUMENT, OUT_OF_RANGE): change the call."""

    advice = "Correct the fields that the message names; the same call will fail again."


class Unauthenticated(ParleyError):
    """The credential is missing or unknown."""

    advice = "Give a valid API key (`api_key=`, or PARLEY_API_KEY for the command)."


class PermissionDenied(ParleyError):
    """The session belongs to somebody else, or the tenant may not do this."""

    advice = "Ask the operator for access; the credential is known but does not allow this."


class NotFound(ParleyError):
    """No such profile, session or worker."""

    advice = "Check the name; a tenant sees only its own sessions."


class FailedPrecondition(ParleyError):
    """The call does not fit the state of things."""

    advice = "Look at the session's state before calling again."


class SessionEnded(FailedPrecondition):
    """The session is over."""

    advice = "Open a new session."


class Superseded(ParleyError):
    """Another stream took the session over (ABORTED): do not retry."""

    advice = "Leave the session to the stream that took it over; do not reconnect."


class ResourceExhausted(ParleyError):
    """A limit was reached; `retry_delay` says when to try again."""

    advice = "Slow down or ask the operator for a higher limit."


class Unavailable(ParleyError):
    """No gateway, worker, message bus or model, or a gateway going away; `retry_delay` says when to try again."""

    advice = "Check that the service runs and that the address is right, then call again."


class DeadlineExceeded(ParleyError):
    """Something took longer than its limit."""

    advice = "Call again, or allow more time."


class Unimplemented(ParleyError):
    """This release of the service does not serve that part of the API."""

    advice = "Use a release of the service that has it."


class InternalError(ParleyError):
    """A fault of the service; the message has an id to look for in its logs."""

    advice = "Report it to the operator together with the message."


class MissingExtra(ImportError):
    """Something was used that needs an optional part of the package. Not an error of a call, so no `ParleyError`."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs more than the bare client: pip install 'parley[{extra}]'")
        self.extra = extra
        """Name of the extra, e.g. `audio`."""

    @property
    def what_to_do(self) -> str:
        """One sentence for whoever sees the error."""
        return f"Install parley[{self.extra}]."


# A reason that is not here is served by the advice of its class.
_ADVICE = {
    "OPEN_MISPLACED": "Send `open` as the first message of a stream, and only then; this client does so by itself.",
    "OPEN_TIMEOUT": "See what holds up the beginning of a stream on its way, a proxy for instance, then call again.",
    "PAYLOAD_MISSING": "Use a client of the same release as the service, or of one beside it.",
    "MESSAGE_INVALID": "Use a client of the same release as the service, or of one beside it.",
    "SEQUENCE_BROKEN": "Number the messages of a session in one place; resume to learn the next number.",
    "AUDIO_INVALID": "Send whole 16 bit samples, at most 1 s in a message; `send_audio` does so by itself.",
    "VIDEO_INVALID": "Send a JPEG or PNG picture of at most 1 MiB.",
    "PROFILE_UNKNOWN": "Use the name of a profile that the operator keeps.",
    "MODEL_UNKNOWN": "Use a model name that the service knows.",
    "TOOL_UNKNOWN": "Use tools of the catalog.",
    "TOOL_CALL_UNKNOWN": "Answer each `ToolCall` once, with its id, unless `ToolCallCancelled` named it.",
    "ARGUMENTS_INVALID": "Give the arguments that the tool's declaration asks for.",
    "SESSION_UNKNOWN": "Check the id, and resume with the credential that opened it; what is over is forgotten.",
    "RESUME_REFUSED": "Use the newest resume token of the session: each `opened` brings one, and voids the one before.",
    "TENANT_LIMIT": "End sessions that nobody needs, wait, or ask the operator for a higher limit.",
    "NO_WORKER": "Start a session worker (`parley worker`), or check that it reaches the same message bus.",
    "NO_CAPACITY": "Wait, or add what the message says is full: workers, gateways, a limit of theirs.",
    "FABRIC_UNAVAILABLE": "The gateway cannot reach its message bus: check nats-server.",
    "BACKEND_UNAVAILABLE": "The model's endpoint cannot be reached: check the worker's address and network.",
    "BACKEND_REFUSED": "The model's endpoint refused the set-up for good: check model, key and profile.",
    "BACKEND_QUOTA": "The model's project is out of quota: wait, or raise it.",
    "CALLER_SLOW": "Read what you ask for without delay; the service buffers little on purpose.",
    "WORKER_LOST": "Try again, or resume the session (`resume=`); if no worker takes it over, open a new one.",
    "GATEWAY_DRAINING": "Call again, or resume the session (`resume=`): another gateway will take it.",
    "UPLINK_OVERFLOW": "Send in real time; the service buffers little on purpose.",
    "NOT_PERMITTED": "Use an operator's API key: one whose entry in the gateway's keys file says `operator: true`.",
}
