"""Opening a session against odds, and which address a stream goes to, against scripted gateways over real sockets."""

from datetime import timedelta

import pytest

import parley
from parley import _streams, errors, events
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream
from tests.client.streams import HERE, WINDOW, confirm_end, gateway_of, hang, kinds, lose, serve, take_until
from tests.support.eventually import eventually


async def test_an_open_that_was_lost_is_said_again_and_finds_its_session():
    async def lost(stream: Stream) -> None:
        await stream.read()
        await stream.lose()

    async def opens(stream: Stream) -> None:
        await stream.opened(resume_token="another", **HERE)
        await confirm_end(stream)

    async with gateway_of(lost, lost, opens) as gateway:
        async with parley.connect(gateway.target, profile="p", labels={"a": "b"}) as session:
            assert session.opened.resume_token == "another"
            assert kinds([await anext(session)]) == ["Opened"]
        first, *others = [stream.requests[0] for stream in gateway.streams]
    assert first.open.request_id
    assert others == [first, first]


async def test_an_open_is_given_up_with_the_last_refusal():
    async def refuses(stream: Stream) -> None:
        await stream.lose(reason="NO_WORKER", after=0.1)

    async with gateway_of(refuses) as gateway:
        with pytest.raises(errors.Unavailable) as caught:
            async with parley.connect(gateway.target, profile="p", open_timeout=timedelta(seconds=0.4)):
                pytest.fail("the block must not run")
    assert caught.value.reason == "NO_WORKER"
    assert 1 < len(gateway.streams) < 6


@pytest.mark.parametrize("name", [True, False], ids=["one name", "several targets"])
async def test_an_address_that_is_dead_is_passed_over(name):
    async def breaks(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.read_until("text")
        await stream.lose()

    async with gateway_of(breaks, serve) as gateway:
        # gRPC's own scheme for a name that stands for several addresses.
        target = f"ipv4:127.0.0.1:1,{gateway.target}" if name else ["127.0.0.1:1", gateway.target]
        async with parley.connect(target, profile="p") as session:
            await session.send_text("hello")
            await take_until(session, events.StreamResumed)
    assert len(gateway.streams) == 2


async def test_the_streams_of_a_name_spread_over_its_addresses():
    async def breaks(stream: Stream) -> None:
        await stream.opened(resume_window={"seconds": 20})
        await stream.send(seq=len(first.streams) + len(second.streams), text=pb.TextOutput(text="new"))
        if first.streams and second.streams:
            await confirm_end(stream)
        else:
            await stream.lose(after=0.01)

    async with (
        gateway_of(breaks) as first,
        gateway_of(breaks) as second,
        parley.connect(f"ipv4:{first.target},{second.target}", profile="p") as session,
    ):
        await eventually(lambda: first.streams and second.streams)
        await eventually(lambda: session.stats.resumes)


async def test_a_gateway_that_does_not_answer_is_passed_over(monkeypatch):
    monkeypatch.setattr(_streams, "ATTEMPT", 0.2)

    async with gateway_of(lose, serve) as good, gateway_of(hang) as frozen:
        async with parley.connect([good.target, frozen.target], profile="p") as session:
            await take_until(session, events.StreamResumed)
        assert len(frozen.streams) == 1


async def test_each_stream_has_a_connection_of_its_own():
    peers = []

    async def breaks(stream: Stream) -> None:
        peers.append(stream.context.peer())
        await stream.opened(**WINDOW)
        await stream.lose()

    async def goes_on(stream: Stream) -> None:
        peers.append(stream.context.peer())
        await serve(stream)

    async with gateway_of(breaks, goes_on) as gateway, parley.connect(gateway.target, profile="p") as session:
        await take_until(session, events.StreamResumed)
    assert len(set(peers)) == 2


async def test_no_target_is_a_mistake():
    with pytest.raises(ValueError, match="at least one target"):
        async with parley.connect([], profile="p"):
            pass


@pytest.mark.parametrize("key", ["secret\n", "gehe\u00efm"])
async def test_a_key_that_no_call_can_carry_is_a_wrong_key(key):
    with pytest.raises(errors.Unauthenticated, match="API key") as refused:
        async with parley.connect("127.0.0.1:1", profile="p", api_key=key):
            pass
    assert refused.value.reason == "CREDENTIAL_INVALID"
    assert key not in str(refused.value)


async def test_an_open_that_runs_out_of_time_says_what_it_was_refused_for():
    async def refuses(stream: Stream) -> None:
        await stream.lose(reason="NO_WORKER", after=0.01)

    async with gateway_of(refuses, hang) as gateway:
        with pytest.raises(errors.Unavailable) as caught:
            async with parley.connect(gateway.target, profile="p", open_timeout=timedelta(seconds=0.3)):
                pytest.fail("the block must not run")
    assert caught.value.reason == "NO_WORKER"
