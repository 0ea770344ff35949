"""A link that does not keep up: what that costs is told in few gaps, in time, and whatever ends meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from parley.v1 import live_pb2
from services.session_worker import events, losses
from tests.session_worker.conftest import TOKEN, FakeLink, Rig
from tests.support.eventually import eventually

TENTH = bytes(3200)
"""100 ms."""
SPEECH = b"\x00\x10" * 1600
"""The same. Silence before it that goes is no loss."""

pytestmark = pytest.mark.parametrize("rig", [{"input_audio_buffer": "1s"}], indirect=True)


def audio(seq: int) -> live_pb2.ConverseRequest:
    """The second one, which is the first to go, is speech."""
    return live_pb2.ConverseRequest(seq=seq, audio=live_pb2.AudioInput(frames=[SPEECH if seq == 2 else TENTH]))


def gaps(rig: Rig) -> list[live_pb2.Gap]:
    return [response.gap for response in rig.responses if response.HasField("gap")]


def heard(link: FakeLink) -> int:
    """Messages."""
    return sum(map(len, link.audio)) // len(TENTH)


async def overload(
    rig: Rig, session: str, link: FakeLink, monkeypatch: pytest.MonkeyPatch, last: int, *, detached: bool = False
) -> asyncio.Event:
    """Send audio up to this number to a link that takes the first of it when the event is set; there is room for ten.
    `detached`: then the stream is gone."""
    begun, goes_on = asyncio.Event(), asyncio.Event()
    taken = link.send_audio

    async def send_audio(pcm: bytes) -> None:
        begun.set()
        await goes_on.wait()
        await taken(pcm)

    monkeypatch.setattr(link, "send_audio", send_audio)
    await rig.send(session, audio(1))
    await begun.wait()
    for seq in range(2, last):
        await rig.send(session, audio(seq))
    await rig.send(session, audio(last), detached=detached)
    return goes_on


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst is over when something else says so."""
    monkeypatch.setattr(losses, "_QUIET", 60.0)
    monkeypatch.setattr(losses, "_LONGEST", 60.0)


async def test_a_link_that_takes_nothing_costs_one_gap(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    session, link = await rig.open()
    goes_on = await overload(rig, session, link, monkeypatch, 100)
    await eventually(lambda: gaps(rig))
    (gap,) = gaps(rig)
    assert (gap.from_seq, gap.to_seq, gap.reason) == (2, 90, "OVERLOAD")
    assert (gap.direction, gap.media_class) == (live_pb2.DIRECTION_UPLINK, live_pb2.MEDIA_CLASS_AUDIO)
    goes_on.set()
    await eventually(lambda: heard(link) == 11)


@pytest.mark.usefixtures("patient")
async def test_a_stream_that_ends_in_the_middle_leaves_the_gap_to_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await rig.open()
    await overload(rig, session, link, monkeypatch, 30, detached=True)
    await eventually(lambda: not rig.worker.held(session)._parts.downlink.attached)
    assert not gaps(rig)
    known = {"session_id": session, "gateway": "gw-test", "tenant": "acme", "principal": "bot"}
    reply = await rig.control(attach={**known, "presented_token_sha256": TOKEN, "new_token_sha256": TOKEN})
    assert reply.HasField("attached")
    await eventually(lambda: gaps(rig))
    assert [(gap.from_seq, gap.to_seq) for gap in gaps(rig)] == [(2, 20)]


@pytest.mark.usefixtures("patient")
async def test_a_session_that_ends_in_the_middle_tells_the_loss_before_its_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await rig.open()
    await overload(rig, session, link, monkeypatch, 30)
    await eventually(lambda: rig.worker.held(session)._parts.downlink.losses)
    await rig.control(end={"session_id": session, "reason": live_pb2.END_REASON_OPERATOR})
    await rig.ended()
    await eventually(lambda: any(response.HasField("ended") for response in rig.responses))
    assert [response.WhichOneof("payload") for response in rig.responses][-2:] == ["gap", "ended"]


@pytest.mark.usefixtures("patient")
async def test_a_caller_is_told_of_a_loss_before_it_forgets_what_was_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, link = await rig.open()
    goes_on = await overload(rig, session, link, monkeypatch, 30)
    await eventually(lambda: rig.worker.held(session)._parts.downlink.losses)
    goes_on.set()
    await eventually(lambda: heard(link) == 11)
    link.says(events.HandleUpdate("h1", True, None))
    await eventually(lambda: rig.envelopes and rig.envelopes[-1].uplink_acked_seq > 20)
    at = next(at for at, envelope in enumerate(rig.envelopes) if envelope.uplink_acked_seq >= 2)
    items = [item for envelope in rig.envelopes[: at + 1] for item in envelope.items]
    told = [live_pb2.ConverseResponse.FromString(item.response) for item in items]
    assert [response.gap.to_seq for response in told if response.HasField("gap")] == [20]
