"""The short way of audio frames gives what the careful reader gives, or leaves the frame to it."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.api import audio_frame, protocol
from emulator.api.protocol import Audio, Decoder
from emulator.errors import Refusal

DECODER = Decoder("developer", "v1beta", strict=True)


def carefully(frame: str | bytes) -> Any:
    """What the careful reader makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol.audio_frame, "read", lambda frame: None)
        try:
            return DECODER.decode(frame)
        except Refusal as refusal:
            return refusal.text


@given(
    pcm=st.binary(max_size=64),
    mime_type=st.text(max_size=70),
    names=st.sampled_from(
        [("realtime_input", "mime_type"), ("realtimeInput", "mimeType"), ("realtimeInput", "mime_type")]
    ),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,", "  :")]),
    encode=st.sampled_from(
        [base64.b64encode, base64.urlsafe_b64encode, lambda pcm: base64.b64encode(pcm).rstrip(b"=")]
    ),
    spoil=st.tuples(st.sampled_from(["", "=", "A", "!", '"', "\\u0041", " "]), st.integers(0, 200)),
)
def test_both_ways_read_the_same(
    *, pcm: bytes, mime_type: str, names: Any, separators: Any, encode: Any, spoil: tuple[str, int]
) -> None:
    message = {names[0]: {"audio": {"data": encode(pcm).decode(), names[1]: mime_type}}}
    frame = json.dumps(message, separators=separators)
    text, at = spoil
    frame = frame[:at] + text + frame[at:]
    if (read := audio_frame.read(frame)) is not None:
        assert Audio(*read) == carefully(frame)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("names", [("realtime_input", "mime_type"), ("realtimeInput", "mimeType")])
def test_what_sdks_send_goes_the_short_way(encode: Any, names: tuple[str, str]) -> None:
    pcm = bytes(range(256)) * 5
    for separators in ((",", ":"), (", ", ": ")):
        message = {names[0]: {"audio": {"data": encode(pcm).decode(), names[1]: "audio/pcm;rate=16000"}}}
        assert audio_frame.read(json.dumps(message, separators=separators)) == (pcm, "audio/pcm;rate=16000")
