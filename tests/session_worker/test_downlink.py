"""The sending end of a session's downlink, without a socket."""

from __future__ import annotations

import pytest

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker.downlink import Downlink
from tests.session_worker.test_losses import uplink_gap

FAILURE = fabric_pb2.Failure(code=10)


def downlink(**kwargs: int) -> Downlink:
    out = Downlink("ses_1", 1, kwargs.get("max_bytes", 10**6), kwargs.get("ahead", 1000))
    out.attach("g1", 1, 0, FAILURE)
    return out


def speak(out: Downlink, count: int, ms: int = 100) -> None:
    for _ in range(count):
        out.emit(live_pb2.ConverseResponse(audio=live_pb2.AudioOutput(frames=[b"xx"])), audio_ms=ms)


def say(out: Downlink) -> int:
    return out.emit(live_pb2.ConverseResponse(turn_complete=live_pb2.TurnComplete()))


def write(out: Downlink) -> int:
    return out.emit(live_pb2.ConverseResponse(output_transcript=live_pb2.Transcript(text="x")))


def envelopes(out: Downlink) -> list[fabric_pb2.DownlinkEnvelope]:
    found = []
    while (publication := out.next_publication()) is not None:
        found.append(fabric_pb2.DownlinkEnvelope.FromString(publication[1]))
    return found


def seqs(found: list[fabric_pb2.DownlinkEnvelope]) -> list[int]:
    return [item.seq for envelope in found for item in envelope.items]


def gaps(found: list[fabric_pb2.DownlinkEnvelope]) -> list[live_pb2.Gap]:
    responses = [live_pb2.ConverseResponse.FromString(item.response) for envelope in found for item in envelope.items]
    return [response.gap for response in responses if response.HasField("gap")]


def skips(found: list[fabric_pb2.DownlinkEnvelope]) -> list[fabric_pb2.Skip]:
    return [skip for envelope in found for skip in envelope.skips]


def span(skip: fabric_pb2.Skip) -> range:
    return range(skip.range.from_seq, skip.range.to_seq + 1)


def skipped(found: list[fabric_pb2.DownlinkEnvelope]) -> list[int]:
    spans = [skip.range for envelope in found for skip in envelope.skips]
    return [seq for span in spans for seq in range(span.from_seq, span.to_seq + 1)]


class TestDownlink:
    def test_what_waits_together_leaves_in_one_envelope(self) -> None:
        out = downlink()
        speak(out, 3)
        say(out)
        (envelope,) = envelopes(out)
        assert [item.seq for item in envelope.items] == [1, 2, 3, 4]
        assert envelope.last_seq == 4

    def test_audio_stops_at_the_window_and_goes_on_when_the_gateway_passes_it_on(self) -> None:
        out = downlink(ahead=300)
        speak(out, 5)
        found = envelopes(out)
        assert seqs(found) == [1, 2, 3]
        assert found[-1].last_seq == 3  # what waits here is not missing there
        out.passed_on(2)
        assert seqs(envelopes(out)) == [4, 5]

    def test_an_interruption_voids_what_is_not_acked_and_overtakes_what_is_queued(self) -> None:
        out = downlink(ahead=200)
        speak(out, 5)
        marker = say(out)
        envelopes(out)
        out.acknowledge(1)
        out.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
        found = envelopes(out)
        assert seqs(found) == [marker, 7]
        assert skipped(found) == [3, 4, 5]
        told = live_pb2.ConverseResponse.FromString(found[-1].items[-1].response).interrupted
        assert (told.void_from_seq, told.void_to_seq) == (2, 5)

    def test_an_interruption_between_answers_voids_nothing(self) -> None:
        out = downlink()
        say(out)
        out.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
        told = live_pb2.ConverseResponse.FromString(envelopes(out)[-1].items[-1].response).interrupted
        assert told.void_to_seq < told.void_from_seq

    def test_a_new_stream_gets_what_the_caller_has_not_and_the_old_one_is_told(self) -> None:
        out = downlink()
        speak(out, 3)
        envelopes(out)
        assert out.attach("g2", 2, 1, FAILURE) == 2
        first, second = envelopes(out)
        assert first.attach_generation == 1
        assert first.stream_end.failure.code == 10
        assert second.attach_generation == 2
        assert [item.seq for item in second.items] == [2, 3]

    def test_voided_audio_is_not_sent_to_a_new_stream(self) -> None:
        out = downlink()
        speak(out, 2)
        out.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
        envelopes(out)
        out.attach("g2", 2, 0, FAILURE)
        found = envelopes(out)
        assert seqs(found) == [3]
        assert skipped(found) == [1, 2]

    def test_what_the_ring_forgot_is_not_called_void(self) -> None:
        out = downlink(ahead=10_000, max_bytes=100)
        for _ in range(30):
            speak(out, 1)
            envelopes(out)
        out.attach("g2", 2, 0, FAILURE)
        spans = [skip for envelope in envelopes(out) for skip in envelope.skips]
        assert spans
        assert {skip.reason for skip in spans} == {"FORGOTTEN"}
        assert len(spans) == 1  # one range, not one skip a message

    def test_what_another_worker_sent_and_the_next_stream_lacks_is_named(self) -> None:
        """It was on its way through a gateway whose stream ended since."""
        out = Downlink("ses_1", 2, 10**6, 1000, last_seq=7)
        assert out.attach("g1", 1, 4, FAILURE, passed_on=7) == 8
        say(out)
        assert (seqs(found := envelopes(out)), skipped(found), out.acked) == ([8], [], 4)
        assert out.attach("g2", 2, 5, FAILURE) == 6
        spans = [skip for envelope in envelopes(out) for skip in envelope.skips]
        assert [(one.range.from_seq, one.range.to_seq, one.reason) for one in spans] == [(6, 7, "FORGOTTEN")]
        # Nobody knows what it was: the worst.
        assert spans[0].media_class == live_pb2.MEDIA_CLASS_VITAL

    def test_what_another_worker_had_no_time_to_send_may_have_been_words(self) -> None:
        out = Downlink("ses_1", 2, 10**6, 1000, last_seq=9)
        assert out.attach("g1", 1, 4, FAILURE, passed_on=6) == 7
        spans = [skip for envelope in envelopes(out) for skip in envelope.skips]
        told = [(one.range.from_seq, one.range.to_seq, one.media_class) for one in spans]
        assert told == [(7, 9, live_pb2.MEDIA_CLASS_VITAL)]

    def test_a_caller_that_never_acks_does_not_fill_the_ring_with_words(self) -> None:
        out = downlink(max_bytes=1000)
        for _ in range(300):
            out.passed_on(say(out))
            envelopes(out)
        speak(out, 1)
        envelopes(out)
        out.resend([(301, 301)])
        assert seqs(envelopes(out)) == [301]

    def test_without_acks_only_the_answer_in_progress_is_void(self) -> None:
        out = downlink()
        speak(out, 3)
        envelopes(out)
        say(out)
        speak(out, 2)
        out.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
        told = live_pb2.ConverseResponse.FromString(envelopes(out)[-1].items[-1].response).interrupted
        assert (told.void_from_seq, told.void_to_seq) == (5, 6)

    def test_without_acks_what_waits_of_the_answer_before_is_named_as_void_too(self) -> None:
        """It will not come, and nothing comes in its place."""
        out = downlink(ahead=100)
        speak(out, 5)
        say(out)
        assert seqs(envelopes(out)) == [1]
        speak(out, 1)
        out.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
        found = envelopes(out)
        told = live_pb2.ConverseResponse.FromString(found[-1].items[-1].response).interrupted
        assert (told.void_from_seq, told.void_to_seq) == (2, 7)
        assert skipped(found) == [2, 3, 4, 5, 7]

    def test_what_is_missing_is_sent_again_and_what_is_forgotten_is_named(self) -> None:
        out = downlink()
        speak(out, 4)
        envelopes(out)
        out.acknowledge(2)
        out.resend([(2, 3)])
        found = envelopes(out)
        assert seqs(found) == [3]
        assert skipped(found) == [2]

    def test_over_the_bound_the_oldest_audio_goes_first_and_words_stay(self) -> None:
        out = downlink(ahead=0, max_bytes=60)
        marker = say(out)
        speak(out, 10)
        found = envelopes(out)
        assert seqs(found) == [marker]
        gone = skipped(found)
        assert gone == list(range(marker + 1, gone[-1] + 1))
        out.drop_queued_audio()
        (gap,) = gaps(envelopes(out))
        assert (gap.direction, gap.media_class, gap.reason) == (
            live_pb2.DIRECTION_DOWNLINK,
            live_pb2.MEDIA_CLASS_AUDIO,
            "OVERLOAD",
        )
        assert (gap.from_seq, gap.to_seq) == (gone[0], gone[-1])

    def test_what_a_burst_costs_is_told_in_one_gap_though_words_are_in_between(self) -> None:
        out = downlink(ahead=0, max_bytes=2000)
        words = [seq for _ in range(30) for seq in (speak(out, 4), write(out))[1:]]
        burst = envelopes(out)
        while not skipped(burst):
            speak(out, 1)
            burst = envelopes(out)
        for _ in range(20):
            speak(out, 1)
            burst += envelopes(out)
        lost = skipped(burst)
        assert len(lost) > 15
        assert not gaps(burst)
        out.passed_on(0)
        out.drop_queued_audio()
        rest = envelopes(out)
        (gap,) = gaps(rest)
        assert (gap.from_seq, gap.to_seq) == (lost[0], lost[-1])
        assert set(words) <= set(seqs(burst + rest))
        assert not set(lost) & set(words)

    def test_a_burst_in_which_nothing_leaves_is_one_gap_and_all_that_is_kept(self) -> None:
        out = downlink(ahead=0, max_bytes=400)
        out.muted = True
        speak(out, 500)
        out.muted = False
        found = envelopes(out)
        out.drop_queued_audio()
        (gap,) = gaps(found)
        lost = [seq for one in skips(found) if one.reason == "OVERLOAD" for seq in span(one)]
        assert (gap.from_seq, gap.to_seq) == (lost[0], lost[-1])
        (item,) = found[0].items
        assert set(range(gap.from_seq, gap.to_seq + 1)) - set(lost) == {item.seq}

    def test_a_gap_names_no_audio_that_has_left(self) -> None:
        out = downlink(ahead=100, max_bytes=400)
        found: list[fabric_pb2.DownlinkEnvelope] = []
        for _ in range(300):
            speak(out, 2)
            found += envelopes(out)
            out.passed_on(max(seqs(found)))
        out.drop_queued_audio()
        found += envelopes(out)
        items = [item for envelope in found for item in envelope.items]
        heard = {item.seq for item in items if item.audio_milliseconds}
        named = [seq for gap in gaps(found) for seq in range(gap.from_seq, gap.to_seq + 1)]
        lost = {seq for one in skips(found) if one.reason == "OVERLOAD" for seq in span(one)}
        assert len(heard) > 200
        assert lost
        assert not heard & set(named)
        assert lost <= set(named)

    @pytest.mark.parametrize("how", ["detached", "attached"])
    def test_a_gap_that_has_not_left_when_the_stream_ends_is_told_to_the_next(self, how: str) -> None:
        out = downlink(ahead=0, max_bytes=300)
        speak(out, 60)
        first = skipped(envelopes(out))
        if how == "detached":
            out.detach()
        out.attach("g2", 2, 0, FAILURE)
        found = envelopes(out)
        speak(out, 60)
        found += envelopes(out)
        out.drop_queued_audio()
        found += envelopes(out)
        named = {seq for gap in gaps(found) for seq in range(gap.from_seq, gap.to_seq + 1)}
        named |= {seq for one in skips(found) if one.reason in ("FORGOTTEN", "ENDED") for seq in span(one)}
        assert set(first) <= named
        assert set(skipped(found)) <= named
        assert {one.reason for one in skips(found)} >= {"VOID"}

    def test_a_caller_that_never_acks_may_interrupt_for_ever(self) -> None:
        out = downlink(max_bytes=4000)
        for _ in range(3000):
            speak(out, 2)
            envelopes(out)
            out.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
            say(out)
            out.passed_on(seqs(envelopes(out))[-1])
        assert len(out._skips._explained) < 300
        # Whoever comes back with nothing lacks what explained what came first: that is named anew.
        assert out.attach("g2", 2, 0, FAILURE) == 1
        told = skips(envelopes(out))
        assert [one.reason for one in told[:1]] == ["FORGOTTEN"]
        assert {one.reason for one in told[1:]} == {"VOID"}
        assert (told[0].range.from_seq, told[0].range.to_seq >= 3000 * 4 - 1500) == (1, True)

    def test_losses_of_the_uplink_are_told_before_what_is_not_audio(self) -> None:
        out = downlink()
        out.losses.add(uplink_gap(1), 0.0)
        speak(out, 1)
        out.losses.add(uplink_gap(2), 0.1)
        assert not out.delivered
        say(out)
        found = envelopes(out)
        assert seqs(found) == [1, 2, 3]
        assert [(gap.from_seq, gap.to_seq) for gap in gaps(found)] == [(1, 2)]
        out.passed_on(3)
        assert out.delivered

    def test_whoever_keeps_the_timeline_is_told_of_losses_of_the_uplink_as_the_caller_is(self) -> None:
        told: list[live_pb2.ConverseResponse] = []
        out = Downlink("ses_1", 1, 10**6, 1000, told=told.append)
        out.losses.add(uplink_gap(1), 0.0)
        out.losses.add(uplink_gap(2), 0.1)
        assert not told
        say(out)
        assert [(one.gap.from_seq, one.gap.to_seq) for one in told] == [(1, 2)]

    @pytest.mark.parametrize("end", ["ends", "is gone", "is another one"])
    def test_losses_of_the_uplink_are_told_when_the_stream_ends_in_the_middle(self, end: str) -> None:
        out = downlink()
        out.losses.add(uplink_gap(1), 0.0)
        match end:
            case "ends":
                out.end_stream()
            case "is gone":
                out.detach()
                out.attach("g2", 2, 0, FAILURE)
            case _:
                out.attach("g2", 2, 0, FAILURE)
        found = [envelope for envelope in envelopes(out) if envelope.items]
        assert [(gap.from_seq, gap.to_seq) for gap in gaps(found)] == [(1, 1)]
        assert found[0].HasField("stream_end") == (end == "ends")

    def test_the_stream_ends_after_everything(self) -> None:
        out = downlink(ahead=100)
        speak(out, 2)
        out.end_stream()
        found = envelopes(out)
        assert not any(envelope.HasField("stream_end") for envelope in found)
        out.passed_on(1)
        assert envelopes(out)[-1].HasField("stream_end")
        assert out.next_publication() is None
        assert not out.attached

    def test_news_of_the_ack_goes_out_alone_and_once(self) -> None:
        out = downlink()
        out.uplink.acked = 5
        out.status()
        out.status()
        (envelope,) = envelopes(out)
        assert len(envelope.items) == 1
        assert live_pb2.ConverseResponse.FromString(envelope.items[0].response).acked_seq == 5
        out.status()
        assert not envelopes(out)[0].items


def told_of_link(out: Downlink) -> int:
    rotating = live_pb2.LinkState(rotating=live_pb2.Rotating(cause="PARKED"))
    return out.emit(live_pb2.ConverseResponse(link_state=rotating))


def test_what_the_gateway_has_passed_on_is_delivered() -> None:
    out = downlink()
    assert out.delivered
    speak(out, 2)
    envelopes(out)
    assert not out.delivered
    out.passed_on(1)
    assert not out.delivered
    out.passed_on(2)
    assert out.delivered
    told_of_link(out)
    assert out.delivered, "news of the link is worth no waiting"


def test_what_a_caller_that_is_away_has_acked_is_delivered() -> None:
    out = downlink()
    speak(out, 3)
    envelopes(out)
    out.passed_on(3)
    out.acknowledge(2)
    assert out.delivered
    out.detach()
    assert not out.delivered, "the last one may be lost with the stream"
    told_of_link(out)
    out.acknowledge(3)
    assert out.delivered


def test_of_a_caller_that_never_acks_the_gateway_knows() -> None:
    out = downlink()
    speak(out, 3)
    envelopes(out)
    out.passed_on(3)
    out.detach()
    assert out.delivered


def test_a_wish_is_said_with_everything() -> None:
    out = downlink()
    out.wish = fabric_pb2.MoveWish(to_worker="wk-b")
    out.tell()
    say(out)
    assert [envelope.move.to_worker for envelope in envelopes(out)] == ["wk-b"]
    out.wish = None
    out.tell()
    assert not any(envelope.HasField("move") for envelope in envelopes(out))


def test_the_last_envelope_says_that_the_session_is_let_go_and_how_far_it_came() -> None:
    out = downlink(ahead=100)
    speak(out, 5)
    sent = envelopes(out)
    last = max(seqs(sent))
    assert last < 5
    out.let_go("wk-b")
    [farewell] = envelopes(out)
    assert (farewell.move.released, farewell.move.to_worker, farewell.last_seq) == (True, "wk-b", last)
    assert out.drained
    out.let_go("wk-b")
    assert not envelopes(out), "there is nobody to tell"


def test_a_gap_of_the_uplink_is_untold_until_the_caller_has_it() -> None:
    """Nobody else would tell it: what waits to be told, what waits behind audio, what only the gateway has."""
    out = downlink(ahead=100)
    speak(out, 5)
    out.losses.add(uplink_gap(3), 0.0)
    assert [loss.downlink_seq for loss in out.untold_losses] == [0]
    say(out)
    assert [(loss.gap, loss.downlink_seq) for loss in out.untold_losses] == [(uplink_gap(3), 6)]
    assert 6 not in seqs(envelopes(out))
    out.acknowledge(5)
    out.passed_on(7)
    assert out.untold_losses
    out.acknowledge(6)
    assert not out.untold_losses


def test_so_is_one_that_a_new_link_brings() -> None:
    out = downlink(ahead=100)
    speak(out, 5)
    out.emit(live_pb2.ConverseResponse(gap=uplink_gap(3)))
    out.emit(live_pb2.ConverseResponse(gap=live_pb2.Gap(direction=live_pb2.DIRECTION_DOWNLINK)))
    assert [(loss.gap, loss.downlink_seq) for loss in out.untold_losses] == [(uplink_gap(3), 6)]
    out.acknowledge(6)
    assert not out.untold_losses


def test_of_a_caller_that_never_acks_the_gateway_knows_of_gaps_too() -> None:
    out = downlink()
    out.losses.add(uplink_gap(3), 0.0)
    say(out)
    envelopes(out)
    assert out.untold_losses
    out.passed_on(2)
    assert not out.untold_losses
