"""What docs/client.md says of resuming by hand, with real processes: nothing twice and nothing missing."""

from __future__ import annotations

import parley
from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.support.counts import heard


class StreamLostError(Exception):
    """The caller's stream is gone."""


async def test_a_caller_that_comes_back_hears_the_rest_and_goes_on() -> None:
    async with Stack(StackConfig()) as stack:
        address = stack.gateways[0].ready["address"]
        taken: list[events.Event] = []
        try:
            async with parley.connect(address, profile="plain") as session:
                await session.send_text("hello")
                async for event in session:
                    taken.append(event)
                    if sum(isinstance(event, events.Audio) for event in taken) == 5:
                        raise StreamLostError
        except StreamLostError:
            pass
        last = max(event.seq for event in taken)
        resume = parley.Resume(session.id, session.opened.resume_token, last_received_seq=last)
        async with parley.connect(address, resume=resume) as again:
            assert again.opened.existing
            # Everything that was sent has arrived.
            assert again.opened.next_uplink_seq == session.stats.sent_messages + 1
            async for event in again:
                taken.append(event)
                if isinstance(event, events.TurnComplete):
                    break
            await again.send_text("thank you goodbye")
            async for event in again:
                if isinstance(event, events.Audio):
                    break
        numbers = [event.seq for event in taken if event.seq]
        assert numbers == list(range(1, len(numbers) + 1))
        assert again.audit.result().whole
        record = await heard(stack, session.id)
        assert record["texts"] == ["hello", "thank you goodbye"]
