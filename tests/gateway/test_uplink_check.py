"""Every rule of the uplink, one row each."""

from __future__ import annotations

from typing import Any

import pytest

from parley.v1 import live_pb2
from services.fabric.errors import ServiceError
from services.gateway.uplink_check import UplinkValidator, parse

CONFIG = live_pb2.SessionConfig(model="gemini-3.8-live")
MANUAL = live_pb2.SessionConfig(
    model="gemini-3.8-live", voice_activity_detection=live_pb2.VoiceActivityDetection(disabled=True)
)


def validator(
    next_seq: int = 1, config: live_pb2.SessionConfig | None = CONFIG, *, existing: bool = False
) -> UplinkValidator:
    return UplinkValidator(next_seq, config, existing=existing, max_message=2_000_000)


def message(seq: int = 1, **payload: Any) -> live_pb2.ConverseRequest:
    return live_pb2.ConverseRequest(seq=seq, **payload)


def image(mime: str = "image/jpeg", size: int = 10) -> live_pb2.Blob:
    return live_pb2.Blob(mime_type=mime, data=bytes(size))


def turn(*parts: live_pb2.Part, role: live_pb2.Role = live_pb2.ROLE_USER, done: bool = True) -> live_pb2.TurnInput:
    return live_pb2.TurnInput(content=[live_pb2.Content(role=role, parts=parts)], turn_complete=done)


def audio(*frames: bytes) -> live_pb2.AudioInput:
    return live_pb2.AudioInput(frames=frames)


GOOD = [
    (message(audio=audio(bytes(640), bytes(2))), live_pb2.MEDIA_CLASS_AUDIO),
    (message(audio=audio(bytes(32_000))), live_pb2.MEDIA_CLASS_AUDIO),
    (message(video=live_pb2.VideoInput(image=image(size=1024 * 1024))), live_pb2.MEDIA_CLASS_VIDEO),
    (message(text=live_pb2.TextInput(text="ä" * 32_768)), live_pb2.MEDIA_CLASS_VITAL),
    (
        message(turn=turn(live_pb2.Part(text="hi"), live_pb2.Part(image=image("image/webp")))),
        live_pb2.MEDIA_CLASS_VITAL,
    ),
    (message(turn=live_pb2.TurnInput(turn_complete=True)), live_pb2.MEDIA_CLASS_VITAL),
    (message(audio_stream_end=live_pb2.AudioStreamEnd()), live_pb2.MEDIA_CLASS_VITAL),
    (message(end=live_pb2.End(reason="x" * 256)), live_pb2.MEDIA_CLASS_VITAL),
]

BAD = [
    (message(), "PAYLOAD_MISSING", "payload"),
    (message(open=live_pb2.Open()), "OPEN_MISPLACED", "open"),
    (message(0, audio=audio(b"\0\0")), "SEQUENCE_BROKEN", "seq"),
    (message(2, audio=audio(b"\0\0")), "SEQUENCE_BROKEN", "seq"),
    (message(tool_result=live_pb2.ToolResult(call_id="c")), "NOT_IMPLEMENTED", None),
    (message(context_update=live_pb2.ContextUpdate(instructions="x")), "NOT_IMPLEMENTED", None),
    (message(audio=audio()), "AUDIO_INVALID", "audio.frames"),
    (message(audio=audio(b"\0\0", b"")), "AUDIO_INVALID", "audio.frames"),
    (message(audio=audio(b"\0\0\0")), "AUDIO_INVALID", "audio.frames"),
    (message(audio=audio(bytes(32_000), bytes(2))), "AUDIO_INVALID", "audio.frames"),
    (message(video=live_pb2.VideoInput()), "VIDEO_INVALID", "video.image"),
    (message(video=live_pb2.VideoInput(image=image(size=0))), "VIDEO_INVALID", "video.image"),
    (message(video=live_pb2.VideoInput(image=image("image/webp"))), "VIDEO_INVALID", "video.image"),
    (message(video=live_pb2.VideoInput(image=image(size=1024 * 1024 + 1))), "VIDEO_INVALID", "video.image"),
    (message(text=live_pb2.TextInput()), "FIELD_INVALID", "text.text"),
    (message(text=live_pb2.TextInput(text="ä" * 32_769)), "FIELD_INVALID", "text.text"),
    (message(turn=live_pb2.TurnInput()), "FIELD_INVALID", "turn.content"),
    (
        message(turn=turn(live_pb2.Part(text="x"), role=live_pb2.ROLE_UNSPECIFIED)),
        "FIELD_INVALID",
        "turn.content[0].role",
    ),
    (message(turn=turn()), "FIELD_INVALID", "turn.content[0].parts"),
    (message(turn=turn(live_pb2.Part())), "FIELD_INVALID", "turn.content[0].parts[0]"),
    (message(turn=turn(live_pb2.Part(text=""))), "FIELD_INVALID", "turn.content[0].parts[0].text"),
    (message(turn=turn(live_pb2.Part(image=image("image/gif")))), "FIELD_INVALID", "turn.content[0].parts[0].image"),
    (message(activity_start=live_pb2.ActivityStart()), "FIELD_INVALID", "activity_start"),
    (message(activity_end=live_pb2.ActivityEnd()), "FIELD_INVALID", "activity_end"),
    (message(end=live_pb2.End(reason="x" * 257)), "FIELD_INVALID", "end.reason"),
]


@pytest.mark.parametrize(("request_", "media_class"), GOOD)
def test_what_is_right_passes_with_its_class(
    request_: live_pb2.ConverseRequest, media_class: live_pb2.MediaClass
) -> None:
    assert validator().check(request_, request_.ByteSize()) == media_class


@pytest.mark.parametrize(("request_", "reason", "field"), BAD)
def test_what_is_wrong_is_named(request_: live_pb2.ConverseRequest, reason: str, field: str | None) -> None:
    with pytest.raises(ServiceError) as raised:
        validator().check(request_, request_.ByteSize())
    assert raised.value.reason_name == reason
    assert list(raised.value.violations) == ([field] if field else [])


def test_a_message_that_no_envelope_could_hold_is_refused() -> None:
    with pytest.raises(ServiceError, match="at most 2000000"):
        validator().check(message(audio_stream_end=live_pb2.AudioStreamEnd()), 2_000_001)


def test_the_limit_of_audio_follows_the_sample_rate() -> None:
    slow = live_pb2.SessionConfig(model="gemini-3.8-live", input_sample_rate_hertz=8000)
    with pytest.raises(ServiceError, match="16000 bytes"):
        validator(config=slow).check(message(audio=audio(bytes(16_002))), 16_010)
    assert validator(config=None).check(message(audio=audio(bytes(96_000))), 96_010)


def test_marks_of_speech_come_in_turn_where_the_caller_sets_them() -> None:
    check = validator(config=MANUAL)
    start, end = {"activity_start": live_pb2.ActivityStart()}, {"activity_end": live_pb2.ActivityEnd()}
    with pytest.raises(ServiceError, match="activity_end"):
        check.check(message(1, **end), 4)
    check = validator(config=MANUAL)
    assert check.check(message(1, **start), 4)
    with pytest.raises(ServiceError, match="activity_start"):
        check.check(message(2, **start), 4)
    # A caller that came back may be in the middle of speaking, or not.
    assert validator(5, MANUAL, existing=True).check(message(5, **end), 4)
    assert validator(5, None, existing=True).check(message(5, **start), 4)


def test_numbers_have_no_holes_and_never_go_back() -> None:
    check = validator()
    for seq in (1, 2, 3):
        check.check(message(seq, audio=audio(b"\0\0")), 10)
    for seq in (3, 5):
        with pytest.raises(ServiceError, match="expected 4"):
            check.check(message(seq, audio=audio(b"\0\0")), 10)


def test_a_caller_that_came_back_may_repeat_what_the_session_has() -> None:
    check = validator(4, existing=True)
    assert check.check(message(2, audio=audio(b"\0\0")), 10) is None
    assert check.check(message(3, audio=audio(b"\0\0")), 10) is None
    assert check.check(message(4, audio=audio(b"\0\0")), 10) == live_pb2.MEDIA_CLASS_AUDIO
    with pytest.raises(ServiceError):
        check.check(message(4, audio=audio(b"\0\0")), 10)
    hole = validator(6, existing=True)
    assert hole.check(message(2, audio=audio(b"\0\0")), 10) is None
    with pytest.raises(ServiceError):
        hole.check(message(4, audio=audio(b"\0\0")), 10)


def test_bytes_are_parsed_or_refused() -> None:
    assert parse(message(7).SerializeToString()).seq == 7
    with pytest.raises(ServiceError, match="MESSAGE_INVALID"):
        parse(b"\xff")
