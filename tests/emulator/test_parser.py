"""Whatever a frame holds, reading it gives an event or a close that the service is known to make."""

import base64
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator import texts
from emulator.api import schema
from emulator.api.protocol import Audio, Decoder
from emulator.api.protojson import Enum, MapOf, snake
from emulator.errors import Refusal, reason_bytes
from tests.emulator.behaviour import behaviour, patched

MESSAGE = schema.message("vertex", "v1beta1")
LINES = (Path(__file__).parents[1] / "data" / "live-frames.jsonl").read_text().splitlines()
SEEN = [one["frame"] for one in map(json.loads, LINES) if one["transport"] == "ws-text"]
NAMES = sorted({name for kind in MESSAGE.values() for name in kind} | set(MESSAGE) | {"parts", "text", "data"})
QUICK = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

SCALARS = {
    "string": st.text(max_size=5),
    "string or null": st.text(max_size=5),
    "bool": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(-1e9, 1e9),
    "bytes": st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode()),
    "struct": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    "json": st.none() | st.integers() | st.lists(st.text(max_size=3), max_size=2),
}
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner),
    max_leaves=12,
)


@st.composite
def of(draw: st.DrawFn, kind: Any, depth: int = 0) -> Any:
    """A value of a kind, with names in camel case; a message has few fields, a deep one none that go deeper."""
    if isinstance(kind, str):
        return draw(SCALARS[kind])
    if isinstance(kind, Enum):
        return draw(st.sampled_from(kind.names[1:]))
    if isinstance(kind, list):
        return [draw(of(kind[0], depth + 1)) for _ in range(draw(st.integers(0, 2)))]
    if isinstance(kind, MapOf):
        return {f"a_{index}": draw(of(kind.kind, depth + 1)) for index in range(draw(st.integers(0, 2)))}
    usable = [name for name, inner in kind.items() if depth < 4 or isinstance(inner, str | Enum)]
    names = draw(st.lists(st.sampled_from(usable), max_size=3, unique=True)) if usable else []
    one_of = getattr(kind, "one_of", {})
    chosen = {one_of.get(name, name): name for name in names}.values()
    return {name: draw(of(kind[name], depth + 1)) for name in chosen}


def spelled(value: Any, kind: Any) -> Any:
    """The same value with names in snake case."""
    if isinstance(kind, list):
        return [spelled(item, kind[0]) for item in value]
    if isinstance(kind, MapOf):
        return {name: spelled(item, kind.kind) for name, item in value.items()}
    if isinstance(kind, dict):
        return {snake(name): spelled(item, kind[name]) for name, item in value.items()}
    return value


def read(frame: str | bytes, *, strict: bool = True) -> Any:
    """The event of a frame, or what it is refused with, which has to be documented."""
    try:
        return Decoder("vertex", "v1beta1", strict=strict).decode(frame)
    except Refusal as refusal:
        assert texts.documented(refusal.code, reason_bytes(refusal.text)), refusal
        return refusal.text


@QUICK
@given(st.text() | st.binary() | junk.map(json.dumps), st.booleans())
def test_nothing_but_a_documented_refusal_is_raised(frame: str | bytes, strict: bool) -> None:
    read(frame, strict=strict)


@QUICK
@given(st.sampled_from(SEEN), st.data())
def test_a_frame_that_an_sdk_sent_with_something_in_it_replaced_is_read_or_refused(
    frame: Any, data: st.DataObject
) -> None:
    whole = json.loads(json.dumps(frame))
    spot: Any = whole
    while isinstance(spot, dict | list) and spot:
        key = data.draw(st.sampled_from(list(spot) if isinstance(spot, dict) else range(len(spot))))
        if not isinstance(spot[key], dict | list) or data.draw(st.booleans()):
            spot[key] = data.draw(junk)
            break
        spot = spot[key]
    read(json.dumps(whole))


@QUICK
@given(st.sampled_from(sorted(MESSAGE)).flatmap(lambda name: of(MESSAGE[name]).map(lambda body: {name: body})))
def test_messages_of_the_schema_are_read_the_same_in_either_spelling(message: Any) -> None:
    camel, other = read(json.dumps(message)), read(json.dumps(spelled(message, MESSAGE)))
    if isinstance(camel, str):
        # The realtime fields of which only one may be sent are no one_of of the schema.
        assert "realtimeInput" in message
        assert camel == other
    else:
        assert type(camel) is type(other)
        assert getattr(camel, "body", camel) == getattr(other, "body", other)


@behaviour("10.12", off=patched("emulator.api.protojson._TO_STANDARD", {}))
def test_any_bytes_are_read_in_either_alphabet() -> None:
    @QUICK
    @given(st.binary(max_size=50), st.booleans())
    def check(data: bytes, padded: bool) -> None:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(data).decode()
            blob = {"data": text if padded else text.rstrip("="), "mimeType": "audio/pcm"}
            assert read(json.dumps({"realtimeInput": {"audio": blob}})) == Audio(data, "audio/pcm")

    check()
