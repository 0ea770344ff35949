"""What a gateway is held to: what is sent, and how it must answer. A table; plain code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parley.v1 import live_pb2 as pb

UNKNOWN_SESSION: Final = "ses_00000000000000000000000000"
NEWER: Final = b"\x08\x01\xe2\x3e\x00"
"""A message with seq 1 and field 1004, a message; no release has that."""
PROFILE: Final = "{profile}"
"""Stands in `open.profile` for the profile that the checks are run with."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The stream ends with this status."""

    code: str
    reason: str
    field: str = ""
    """The field that BadRequest must name; empty: none need be named."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream gets `opened`."""

    existing: bool


@dataclass(frozen=True, slots=True)
class Over:
    """The stream ends with OK."""

    ended: bool
    """`ended` comes before: the session is over, too."""


Expected = Refused | Opened | Over


@dataclass(frozen=True, slots=True)
class GatewayCheck:
    """One stream and its end."""

    name: str
    what: str
    expected: Expected
    sent: tuple[pb.ConverseRequest | bytes, ...] = ()
    """First message and what follows it; bytes go out as they are."""
    attach: Callable[[pb.Open, pb.Opened], pb.ConverseRequest] | None = None
    """The first message, made of the open of another session and what it was answered."""
    instead: Refused | None = None
    """What is as right as `expected`."""
    first: Refused | None = None
    """How the stream of that other session ends then; None: it goes on."""
    first_ended: bool = False
    """That other session is ended before."""
    api_key: str | None = None
    """Instead of the right one."""


def opening(seq: int = 0, **fields: object) -> pb.ConverseRequest:
    """An open that is right unless `fields` say otherwise; its request id is filled in where it is `*`."""
    wanted: dict[str, object] = {"request_id": "*", "profile": PROFILE, **fields}
    return pb.ConverseRequest(seq=seq, open=pb.Open(**wanted))  # type: ignore[arg-type]


def _config(**fields: object) -> pb.ConverseRequest:
    config = pb.SessionConfig(**{"model": "gemini-3.8-live", **fields})  # type: ignore[arg-type]
    return pb.ConverseRequest(open=pb.Open(request_id="*", config=config))


def _resume(session_id: str, token: str, after: int = 0, **fields: object) -> pb.ConverseRequest:
    resume = pb.Resume(session_id=session_id, resume_token=token, last_received_seq=after)
    return pb.ConverseRequest(open=pb.Open(resume=resume, **fields))  # type: ignore[arg-type]


def _text(seq: int, text: str = "hello") -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=seq, text=pb.TextInput(text=text))


def _audio(*frames: bytes) -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=1, audio=pb.AudioInput(frames=frames))


def _turn(*content: pb.Content) -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=1, turn=pb.TurnInput(content=content))


def _video(mime_type: str, data: bytes) -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=1, video=pb.VideoInput(image=pb.Blob(mime_type=mime_type, data=data)))


def _table() -> list[GatewayCheck]:
    bad = "INVALID_ARGUMENT"
    part = pb.Part(text="hello")
    end = pb.ConverseRequest(seq=1, end=pb.End(reason="conformance"))
    first = [
        GatewayCheck("open", "a right `open` is answered by `opened`", Opened(existing=False), (opening(),)),
        GatewayCheck("end", "`end` gets `ended` and status OK", Over(ended=True), (opening(), end)),
        GatewayCheck("after-end", "what comes after `end` is not heard", Over(ended=True), (opening(), end, _text(2))),
        GatewayCheck("half-close", "a half-close detaches with status OK", Over(ended=False), (opening(),)),
        GatewayCheck(
            "open-again",
            "the same request id finds the session and takes its stream over",
            Opened(existing=True),
            attach=lambda sent, _: pb.ConverseRequest(open=sent),
            first=Refused("ABORTED", "SUPERSEDED"),
        ),
        GatewayCheck(
            "resume",
            "a resume finds the session and takes its stream over",
            Opened(existing=True),
            attach=lambda _, got: _resume(got.session_id, got.resume_token),
            first=Refused("ABORTED", "SUPERSEDED"),
        ),
        GatewayCheck(
            "resume-wrong-token",
            "a wrong token is refused, and the stream that is there goes on",
            Refused("PERMISSION_DENIED", "RESUME_REFUSED"),
            attach=lambda _, got: _resume(got.session_id, "wrong"),
        ),
        GatewayCheck(
            "resume-from-the-future",
            "`last_received_seq` beyond the newest message is refused",
            Refused(bad, "FIELD_INVALID", "open.resume.last_received_seq"),
            attach=lambda _, got: _resume(got.session_id, got.resume_token, 10**9),
        ),
        GatewayCheck(
            "resume-ended",
            "a session that has ended cannot be resumed",
            Refused("FAILED_PRECONDITION", "SESSION_ENDED"),
            attach=lambda _, got: _resume(got.session_id, got.resume_token),
            instead=Refused("NOT_FOUND", "SESSION_UNKNOWN"),  # where records of ended sessions are not kept
            first_ended=True,
        ),
        GatewayCheck(
            "resume-unknown",
            "a session that does not exist, or is another tenant's",
            Refused("NOT_FOUND", "SESSION_UNKNOWN"),
            (_resume(UNKNOWN_SESSION, "token"),),
        ),
        GatewayCheck(
            "credential",
            "an unknown API key",
            Refused("UNAUTHENTICATED", "CREDENTIAL_INVALID"),
            (opening(),),
            api_key="no-such-key",
        ),
    ]

    def refused(name: str, what: str, sent: pb.ConverseRequest | bytes, reason: str, field: str = "") -> GatewayCheck:
        return GatewayCheck(name, what, Refused(bad, reason, field), (sent,))

    opens = [
        refused("open-late", "the first message is no `open`", _text(1), "OPEN_MISPLACED", "open"),
        refused("open-empty", "the first message is empty", pb.ConverseRequest(), "PAYLOAD_MISSING", "payload"),
        refused("open-bytes", "the first message is none", b"\xff\xff\xff", "MESSAGE_INVALID"),
        refused("open-numbered", "`open` has a number", opening(1), "SEQUENCE_BROKEN", "seq"),
        refused("open-request-id", "no request id", opening(request_id=""), "FIELD_INVALID", "open.request_id"),
        refused("open-request-id-form", "a blank in it", opening(request_id="a b"), "FIELD_INVALID", "open.request_id"),
        refused(
            "open-no-source",
            "neither profile nor config",
            pb.ConverseRequest(open=pb.Open(request_id="*")),
            "FIELD_INVALID",
            "open.profile",
        ),
        refused(
            "open-labels", "17 labels", opening(labels={f"l{n}": "" for n in range(17)}), "FIELD_INVALID", "open.labels"
        ),
        refused("open-model", "an unknown model", _config(model="none"), "MODEL_UNKNOWN", "open.config.model"),
        refused(
            "open-tool", "an unknown tool", _config(tools=["no_such_tool"]), "TOOL_UNKNOWN", "open.config.tools[0]"
        ),
        refused(
            "open-rate",
            "an input rate of 1 Hz",
            _config(input_sample_rate_hertz=1),
            "FIELD_INVALID",
            "open.config.input_sample_rate_hertz",
        ),
        refused(
            "open-enum",
            "a value of an enum that no release has",
            _config(activity_handling=999),
            "FIELD_INVALID",
            "open.config.activity_handling",
        ),
        refused(
            "open-large",
            "settings of more than 768 KiB",
            _config(history=[pb.Content(role=pb.ROLE_USER, parts=[pb.Part(text="x" * 65_536)])] * 12),
            "FIELD_INVALID",
            "open.config",
        ),
        refused(
            "resume-and-profile",
            "`profile` beside `resume`",
            _resume(UNKNOWN_SESSION, "token", profile="plain"),
            "FIELD_INVALID",
            "open.profile",
        ),
        refused(
            "resume-without-token",
            "no resume token",
            _resume(UNKNOWN_SESSION, ""),
            "FIELD_INVALID",
            "open.resume.resume_token",
        ),
        GatewayCheck(
            "open-profile",
            "an unknown profile",
            Refused("NOT_FOUND", "PROFILE_UNKNOWN", "open.profile"),
            (opening(profile="no-such-profile"),),
        ),
    ]

    def later(name: str, what: str, reason: str, field: str, *sent: pb.ConverseRequest | bytes) -> GatewayCheck:
        return GatewayCheck(name, what, Refused(bad, reason, field), (opening(), *sent))

    numbered_ack = pb.ConverseRequest(seq=1, ack=pb.Ack(seq=0))
    unsaid = pb.Content(parts=[part])
    silent = pb.Content(role=pb.ROLE_USER)
    hollow = pb.Content(role=pb.ROLE_USER, parts=[pb.Part()])
    result = pb.ConverseRequest(seq=1, tool_result=pb.ToolResult(call_id="nobody's", error="no"))
    messages = [
        later("seq-hole", "a number is left out", "SEQUENCE_BROKEN", "seq", _text(2)),
        later("seq-back", "a number comes twice", "SEQUENCE_BROKEN", "seq", _text(1), _text(1)),
        later("seq-zero", "a message without number", "SEQUENCE_BROKEN", "seq", _text(0)),
        later("ack-numbered", "`ack` has a number", "SEQUENCE_BROKEN", "seq", numbered_ack),
        later("open-twice", "a second `open`", "OPEN_MISPLACED", "open", opening()),
        later("message-empty", "no payload", "PAYLOAD_MISSING", "payload", pb.ConverseRequest(seq=1)),
        later("message-bytes", "bytes that are no message", "MESSAGE_INVALID", "", b"\xff\xff\xff"),
        later("audio-odd", "half a sample", "AUDIO_INVALID", "audio.frames", _audio(b"\0" * 641)),
        later("audio-empty", "an empty frame", "AUDIO_INVALID", "audio.frames", _audio(b"")),
        later("audio-none", "no frame", "AUDIO_INVALID", "audio.frames", _audio()),
        # 1 s at the highest rate that a session can have, and a sample more: too much whatever the profile says.
        later("audio-long", "more than 1 s", "AUDIO_INVALID", "audio.frames", _audio(b"\0" * 96_002)),
        later("video-type", "a picture that is a GIF", "VIDEO_INVALID", "video.image", _video("image/gif", b"GIF")),
        later("video-none", "a JPEG that is none", "VIDEO_INVALID", "video.image", _video("image/jpeg", b"GIF89a")),
        later("video-empty", "a picture without bytes", "VIDEO_INVALID", "video.image", _video("image/jpeg", b"")),
        later("text-empty", "an empty text", "FIELD_INVALID", "text.text", _text(1, "")),
        later("text-long", "more than 64 KiB of text", "FIELD_INVALID", "text.text", _text(1, "x" * (64 * 1024 + 1))),
        later("turn-empty", "a turn without content", "FIELD_INVALID", "turn.content", _turn()),
        later("turn-role", "content without role", "FIELD_INVALID", "turn.content[0].role", _turn(unsaid)),
        later("turn-parts", "content without parts", "FIELD_INVALID", "turn.content[0].parts", _turn(silent)),
        later("turn-part", "a part without data", "FIELD_INVALID", "turn.content[0].parts[0]", _turn(hollow)),
        later(
            "end-reason",
            "a reason of 257 characters",
            "FIELD_INVALID",
            "end.reason",
            pb.ConverseRequest(seq=1, end=pb.End(reason="x" * 257)),
        ),
        later(
            "result-enum",
            "a value of an enum that no release has",
            "FIELD_INVALID",
            "tool_result.scheduling",
            pb.ConverseRequest(seq=1, tool_result=pb.ToolResult(call_id="c", error="no", scheduling=999)),  # type: ignore[arg-type]
        ),
        later("tool-call-unknown", "a result for a call that nobody made", "TOOL_CALL_UNKNOWN", "", result),
        GatewayCheck(
            "message-newer",
            "a payload that no release knows",
            Refused("UNIMPLEMENTED", "NOT_IMPLEMENTED"),
            (opening(), NEWER),
        ),
        GatewayCheck(
            "activity",
            "`activity_start` where the service finds speech itself",
            Refused(bad, "FIELD_INVALID", "activity_start"),
            (_config(), pb.ConverseRequest(seq=1, activity_start=pb.ActivityStart())),
        ),
    ]
    return [*first, *opens, *messages]


GATEWAY_CHECKS: Final[dict[str, GatewayCheck]] = {check.name: check for check in _table()}
