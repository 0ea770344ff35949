"""Every rule of the uplink, one row each."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import struct_pb2

from parley.v1 import live_pb2
from services.fabric.errors import ServiceError
from services.gateway.uplink_check import UplinkValidator, parse

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
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


SIGNATURES = {
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/webp": b"RIFF\0\0\0\0WEBP",
    "image/gif": b"GIF89a",
}


def image(mime: str = "image/jpeg", size: int = 20) -> live_pb2.Blob:
    return live_pb2.Blob(mime_type=mime, data=SIGNATURES[mime].ljust(size, b"\0")[:size])


def result(**fields: Any) -> live_pb2.ToolResult:
    return live_pb2.ToolResult(**{"call_id": "c", **fields})


def update(*names: str, **fields: Any) -> live_pb2.ContextUpdate:
    return live_pb2.ContextUpdate(tools=live_pb2.ToolSelection(names=names) if names else None, **fields)


def nested(levels: int) -> struct_pb2.Struct:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return struct(value)


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


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
    (message(video=live_pb2.VideoInput(image=image("image/png"))), live_pb2.MEDIA_CLASS_VIDEO),
    (message(audio_stream_end=live_pb2.AudioStreamEnd()), live_pb2.MEDIA_CLASS_VITAL),
    (message(tool_result=result(error="ä" * 2048)), live_pb2.MEDIA_CLASS_VITAL),
    (
        message(tool_result=result(output=nested(32), scheduling=live_pb2.RESPONSE_SCHEDULING_SILENT)),
        live_pb2.MEDIA_CLASS_VITAL,
    ),
    (message(tool_result=result(output=struct({}), will_continue=True)), live_pb2.MEDIA_CLASS_VITAL),
    (message(context_update=update(instructions="")), live_pb2.MEDIA_CLASS_VITAL),
    (message(context_update=live_pb2.ContextUpdate(tools=live_pb2.ToolSelection())), live_pb2.MEDIA_CLASS_VITAL),
    (message(context_update=update("a", "b", instructions="x" * 32_768)), live_pb2.MEDIA_CLASS_VITAL),
    (message(end=live_pb2.End(reason="x" * 256)), live_pb2.MEDIA_CLASS_VITAL),
]

BAD = [
    (message(), "PAYLOAD_MISSING", "payload"),
    (message(open=live_pb2.Open()), "OPEN_MISPLACED", "open"),
    (message(0, audio=audio(b"\0\0")), "SEQUENCE_BROKEN", "seq"),
    (message(2, audio=audio(b"\0\0")), "SEQUENCE_BROKEN", "seq"),
    (message(tool_result=result()), "FIELD_INVALID", "tool_result.output"),
    (message(tool_result=result(call_id="", error="x")), "FIELD_INVALID", "tool_result.call_id"),
    (message(tool_result=result(call_id="x" * 1025, error="x")), "FIELD_INVALID", "tool_result.call_id"),
    (message(tool_result=result(error="")), "FIELD_INVALID", "tool_result.error"),
    (message(tool_result=result(error="x" * 4097)), "FIELD_INVALID", "tool_result.error"),
    (message(tool_result=result(error="x", scheduling=9)), "FIELD_INVALID", "tool_result.scheduling"),
    (message(tool_result=result(output=nested(33))), "FIELD_INVALID", "tool_result.output"),
    (message(tool_result=result(output=struct({"x": float("nan")}))), "FIELD_INVALID", "tool_result.output"),
    (message(tool_result=result(output=struct({"x": "x" * 262_144}))), "FIELD_INVALID", "tool_result.output"),
    (message(context_update=update()), "FIELD_INVALID", "context_update.instructions"),
    (message(context_update=update(instructions="x" * 32_769)), "FIELD_INVALID", "context_update.instructions"),
    (message(context_update=update("a", "a")), "FIELD_INVALID", "context_update.tools.names[1]"),
    (message(context_update=update("not ok")), "TOOL_UNKNOWN", "context_update.tools.names[0]"),
    (live_pb2.ConverseRequest.FromString(b"\x08\x01\xf2\x06\x00"), "NOT_IMPLEMENTED", None),  # field 110
    (message(video=live_pb2.VideoInput(image=image(size=2))), "VIDEO_INVALID", "video.image"),
    (
        message(video=live_pb2.VideoInput(image=live_pb2.Blob(mime_type="image/png", data=image().data))),
        "VIDEO_INVALID",
        "video.image",
    ),
    (message(turn=turn(*[live_pb2.Part(text="x")] * 101)), "FIELD_INVALID", "turn.content[0].parts"),
    (message(turn=live_pb2.TurnInput(content=[live_pb2.Content()] * 101)), "FIELD_INVALID", "turn.content"),
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


@pytest.mark.parametrize(
    ("model", "request_", "field"),
    [
        (
            "gemini-3.8-live-extended-thinking",
            message(tool_result=result(error="x", scheduling=live_pb2.RESPONSE_SCHEDULING_SILENT)),
            "tool_result.scheduling",
        ),
        (
            "gemini-3.1-flash-live-preview",
            message(tool_result=result(error="x", will_continue=True)),
            "tool_result.will_continue",
        ),
        ("gemini-3.1-flash-live-preview", message(context_update=update(instructions="x")), "context_update"),
        *(
            (model, message(**said), next(iter(said)))
            for model in ("gemini-3.5-transcribe-live", "gemini-3.5-live-translate-preview")
            for said in (
                {"text": live_pb2.TextInput(text="hi")},
                {"turn": turn(live_pb2.Part(text="hi"))},
                {"video": live_pb2.VideoInput(image=image())},
            )
        ),
        (NATIVE, message(turn=live_pb2.TurnInput(turn_complete=True)), "turn.content"),
    ],
)
def test_what_the_model_does_not_take_is_refused(model: str, request_: live_pb2.ConverseRequest, field: str) -> None:
    with pytest.raises(ServiceError) as raised:
        validator(config=live_pb2.SessionConfig(model=model)).check(request_, request_.ByteSize())
    assert list(raised.value.violations) == [field]
    # Where the settings are not at hand, the worker has the last word.
    assert validator(config=None, existing=True).check(request_, request_.ByteSize())


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


TURN_END = {"turn": live_pb2.TurnInput(turn_complete=True)}
SAID = {"turn": turn(live_pb2.Part(text="hi"), done=False)}
ANSWERED = {"turn": turn(live_pb2.Part(text="hi"))}
TYPED = {"text": live_pb2.TextInput(text="hi")}
SPOKEN = {"audio": audio(b"\0\0")}
START, END = {"activity_start": live_pb2.ActivityStart()}, {"activity_end": live_pb2.ActivityEnd()}


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ([TURN_END], "turn.content"),
        ([SAID, TURN_END], ""),
        ([ANSWERED, TURN_END], "turn.content"),
        ([SAID, TYPED, TURN_END, TURN_END], "turn.content"),
        ([START, END], "activity_end"),
        ([START, SPOKEN, END, START, TYPED, END], ""),
        ([SPOKEN, START, END], "activity_end"),
        ([START, SPOKEN, END, START, END], "activity_end"),
    ],
)
def test_where_the_model_answers_nothing_that_was_not_said_it_is_not_asked_to(
    said: list[dict[str, Any]], refused: str
) -> None:
    """Models of 2.5 end the link (1007) for it, and the session with it."""
    detection = MANUAL.voice_activity_detection
    messages = [message(seq, **each) for seq, each in enumerate(said, 1)]
    for model, field in ((NATIVE, refused), ("gemini-3.8-live", "")):
        check = validator(config=live_pb2.SessionConfig(model=model, voice_activity_detection=detection))
        for each in messages[:-1]:
            assert check.check(each, each.ByteSize())
        if not field:
            assert check.check(messages[-1], messages[-1].ByteSize())
            continue
        with pytest.raises(ServiceError) as raised:
            check.check(messages[-1], messages[-1].ByteSize())
        assert list(raised.value.violations) == [field]
    # A caller that came back may have said something before.
    config = live_pb2.SessionConfig(model=NATIVE, voice_activity_detection=detection)
    for each in (TURN_END, END):
        assert validator(5, config, existing=True).check(message(5, **each), 4)


def test_tools_of_an_update_fit_beside_the_callers_own() -> None:
    own = [live_pb2.FunctionDeclaration(name=f"own{number}") for number in range(2)]
    config = live_pb2.SessionConfig(model="gemini-3.8-live", caller_tools=own)
    most = message(context_update=update(*(f"t{number}" for number in range(126))))
    assert validator(config=config).check(most, most.ByteSize())
    most.context_update.tools.names.append("one_more")
    with pytest.raises(ServiceError, match="at most 126") as raised:
        validator(config=config).check(most, most.ByteSize())
    assert list(raised.value.violations) == ["context_update.tools.names"]


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
