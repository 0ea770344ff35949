"""What a new owner makes of the records of the one before, wherever among its writes that one died."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from parley.v1 import errors_pb2, fabric_pb2, live_pb2, sessions_pb2
from services.fabric.capabilities import capabilities_of
from services.fabric.errors import ServiceError
from services.session_worker.conversation import Conversation
from services.session_worker.restored_state import Answering, Number, Numbering, RestoredState, restored
from services.session_worker.takeover import check_owner, check_stream

MODEL = capabilities_of("gemini-3.8-live", "developer")
assert MODEL is not None
SINCE_IT_BEGAN = Numbering()


def log(*entries: fabric_pb2.LogEntry) -> list[fabric_pb2.LogEntry]:
    """Numbered as they are stored."""
    for position, entry in enumerate(entries, 1):
        entry.position = position
    return list(entries)


def text(seq: int, words: str = "hello") -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(request=live_pb2.ConverseRequest(seq=seq, text=live_pb2.TextInput(text=words)))


def heard(words: str) -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(input_transcript=live_pb2.Transcript(text=words))


def said(words: str, given_seq: int, turn: int) -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(model_said=fabric_pb2.ModelSaid(text=words, given_seq=given_seq, turn=turn))


def said_until(last_downlink_seq: int) -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(
        model_said=fabric_pb2.ModelSaid(text="sunny", given_seq=5, turn=2, last_downlink_seq=last_downlink_seq)
    )


def told(call_id: str, key: str = "") -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(tool=fabric_pb2.ToolRecord(call_id=call_id, name="look", claim_key=key))


def state(
    entries: list[fabric_pb2.LogEntry],
    request: dict[str, Any] | None = None,
    begun: dict[str, int] | None = None,
    *,
    words: bool = True,
    numbering: Numbering = SINCE_IT_BEGAN,
    **checkpoint: Any,
) -> RestoredState:
    record = fabric_pb2.CheckpointRecord(**checkpoint)
    if begun is not None:
        record.begun.CopyFrom(fabric_pb2.AnswerBegun(**begun))
    assert MODEL is not None
    return restored(
        fabric_pb2.TakeOver(**(request or {})), record, entries, Conversation(MODEL, words=words), numbering
    )


def given(found: RestoredState) -> set[int]:
    """Numbers of what the log has and the link is to be given."""
    return {stored.request.seq for stored in found.stored if stored.position in found.to_give}


def words(contents: list[types.Content]) -> list[str]:
    return [part.text or "" for content in contents for part in content.parts or []]


# What the link is given


def test_what_was_answered_is_not_given_again() -> None:
    found = state(log(text(1), said("hi", 1, 1)), covered_uplink_seq=9, log_position=2, turns=1)
    assert (found.received, given(found), found.answering, found.turns) == (9, set(), None, 1)
    assert words(found.conversation.since(0)) == ["hello", "hi"]


def test_a_text_that_waits_is_given_as_it_was() -> None:
    found = state(log(text(1), said("hi", 1, 1), text(5, "and now")), covered_uplink_seq=3, log_position=2, turns=1)
    assert (found.received, given(found)) == (3, {5})
    assert [stored.request.seq for stored in found.stored] == [1, 5]


def test_texts_in_a_row_are_not_asked_for_again() -> None:
    assert state(log(text(1), text(2), text(4))).received == 2


def test_a_gateway_that_has_less_is_asked_for_less() -> None:
    assert state(log(), {"uplink_acked_seq": 7}, covered_uplink_seq=5).received == 7


def test_the_newest_text_of_a_number_counts() -> None:
    found = state(log(text(1, "a"), text(1, "b")))
    assert [stored.request.text.text for stored in found.stored] == ["b"]


def renumbered(position: int, seq: int, *, left_out: bool = False) -> fabric_pb2.LogEntry:
    return fabric_pb2.LogEntry(renumbered=fabric_pb2.Renumbered(position=position, seq=seq, left_out=left_out))


def test_what_another_stream_has_not_sent_again_has_no_number() -> None:
    entries = [text(1), said("hi", 1, 1), text(3, "a"), text(4, "b"), text(6, "c")]
    found = state(log(*entries, text(7, "d")), numbering=Numbering(4, 5), covered_uplink_seq=2)
    assert [stored.request.seq for stored in found.stored if stored.number is Number.ITS_OWN] == [1, 3, 7]
    assert [stored.request.seq for stored in found.stored if stored.number is Number.GONE] == [4, 6]
    assert (found.received, given(found), found.given_from_the_log) == (3, {3, 4, 6, 7}, [3])
    assert words(found.conversation.unanswered()) == ["a", "d"], "the others have not been sent"


def test_what_it_has_sent_has_the_number_of_that() -> None:
    entries = [text(1), said("hi", 1, 1), text(9, "a"), renumbered(3, 3), text(4, "b")]
    found = state(log(*entries), numbering=Numbering(3, 3), covered_uplink_seq=2)
    assert [(each.request.seq, each.request.text.text) for each in found.stored[1:]] == [(3, "a"), (4, "b")]
    assert (found.received, given(found)) == (4, {3, 4})
    assert words(found.conversation.unanswered(3)) == ["a"]
    answered = state(log(*entries, said("so", 3, 2)), numbering=Numbering(3, 3), covered_uplink_seq=2)
    assert given(answered) == {4}


def test_what_was_sent_again_may_be_of_a_stream_that_is_gone_itself() -> None:
    entries = [text(1), said("hi", 1, 1), text(9, "a"), renumbered(3, 5)]
    found = state(log(*entries), numbering=Numbering(3, 4), covered_uplink_seq=2)
    assert [(each.request.seq, each.number) for each in found.stored[1:]] == [(5, Number.GONE)]


def test_what_was_left_out_has_the_number_of_another_message() -> None:
    """Several may have the same; that message is not stored, and is asked for."""
    left_out = [renumbered(position, 3, left_out=True) for position in (3, 4)]
    entries = [text(1), said("hi", 1, 1), text(8, "a"), text(9, "b"), *left_out, text(4, "c")]
    found = state(log(*entries), numbering=Numbering(3, 4), covered_uplink_seq=2)
    assert (found.received, given(found), found.given_from_the_log) == (2, {3, 4}, [])
    assert [each.request.text.text for each in found.stored[1:]] == ["a", "b", "c"]
    assert words(found.conversation.unanswered()) == ["a", "b", "c"]
    before = state(log(*entries, said("so", 2, 2)), numbering=Numbering(3, 4), covered_uplink_seq=2)
    assert given(before) == {3, 4}, "the answer had begun before they came"
    answered = state(log(*entries, said("so", 4, 2)), numbering=Numbering(3, 4), covered_uplink_seq=2)
    assert given(answered) == set()


def test_what_was_left_out_may_be_of_a_stream_that_is_gone_itself() -> None:
    entries = [text(1), said("hi", 1, 1), text(8, "a"), renumbered(3, 5, left_out=True)]
    found = state(log(*entries), numbering=Numbering(3, 4), covered_uplink_seq=2)
    assert [(each.request.seq, each.number) for each in found.stored[1:]] == [(5, Number.GONE)]


@pytest.mark.parametrize("position", [3, 4, 9])
def test_a_stream_may_have_begun_behind_an_entry_that_is_not_there(position: int) -> None:
    entries = log(text(1), said("hi", 1, 1), text(4, "a"), text(5, "b"))
    entries[3].position = 5
    found = state(entries, numbering=Numbering(3, position), covered_uplink_seq=2)
    gone = [4] if position < 5 else [4, 5]
    assert [each.request.seq for each in found.stored if each.number is Number.GONE] == gone
    assert state(entries[2:], numbering=Numbering(3, 2), covered_uplink_seq=2).stored[0].number is Number.ITS_OWN


def test_an_update_that_the_checkpoint_may_not_have_is_made_again() -> None:
    def update(seq: int) -> fabric_pb2.LogEntry:
        request = live_pb2.ConverseRequest(seq=seq, context_update=live_pb2.ContextUpdate(instructions="be brief"))
        return fabric_pb2.LogEntry(request=request)

    assert given(state(log(update(1), update(2)), log_position=1)) == {2}


def test_a_result_of_a_call_is_not_given_as_it_was() -> None:
    result = live_pb2.ConverseRequest(seq=1, tool_result=live_pb2.ToolResult(call_id="c"))
    assert given(state(log(fabric_pb2.LogEntry(request=result)))) == set()


# An answer that was cut off


BEGUN = {"turn": 2, "given_seq": 5, "log_position": 3, "first_downlink_seq": 11}


def test_an_answer_that_was_cut_off_is_asked_for_again_in_words() -> None:
    entries = log(text(1), said("hi", 1, 1), heard("the weather"), text(6, "in london"))
    found = state(entries, {"floor": 14}, BEGUN, covered_uplink_seq=2, log_position=3, turns=1)
    assert found.answering == Answering(5, 3)
    assert found.received == 6
    assert given(found) == {6}
    assert (found.turns, found.heard) == (1, "")
    assert found.void == (11, 14)


def test_a_question_that_is_known_as_audio_alone_is_given_as_audio() -> None:
    found = state(log(text(1), said("hi", 1, 1)), {"floor": 14}, BEGUN, covered_uplink_seq=2, log_position=2)
    assert (found.answering, found.received, found.turns) == (None, 2, 1)
    assert found.void == (11, 14)


def test_an_answer_that_nobody_heard_is_not_told_as_cut_off() -> None:
    assert state(log(), {"floor": 10}, BEGUN).void is None


def test_what_the_caller_has_played_is_not_void() -> None:
    assert state(log(), {"floor": 14, "downlink_acked_seq": 12}, BEGUN).void == (13, 14)


def test_an_answer_that_began_in_the_last_moment_is_known_by_its_audio() -> None:
    cut_off = {"floor": 14, "last_audio_seq": 13}
    assert state(log(), cut_off, turn_end_downlink_seq=9).void == (10, 14)
    assert state(log(), cut_off, turn_end_downlink_seq=13).void is None


def test_an_answer_that_ended_in_the_last_moment_is_over() -> None:
    entries = log(heard("the weather"), said("sunny", 5, 2))
    found = state(entries, {"floor": 14, "last_audio_seq": 14}, {**BEGUN, "log_position": 1}, log_position=1)
    assert (found.answering, found.void, found.received, found.turns) == (None, None, 5, 2)


@pytest.mark.parametrize(
    ("ended", "last_audio", "void", "undelivered"),
    [
        (14, 13, None, None),
        (12, 11, None, None),
        (12, 14, (13, 14), None),  # the first of the answer after it
        (17, 14, None, (15, 17)),
        (0, 14, None, None),  # an older release did not say where it ended
    ],
)
@pytest.mark.parametrize("begun", [None, {**BEGUN, "log_position": 1}])
def test_an_answer_that_ended_in_the_last_moment_ended_there(
    ended: int,
    last_audio: int,
    void: tuple[int, int] | None,
    undelivered: tuple[int, int] | None,
    begun: dict[str, int] | None,
) -> None:
    reached = {"floor": 14, "last_audio_seq": last_audio}
    found = state(log(heard("the weather"), said_until(ended)), reached, begun, log_position=1, turn_end_downlink_seq=9)
    assert (found.void, found.undelivered, found.turns) == (void, undelivered, 2)
    kinds = [response.WhichOneof("payload") for response in found.responses()]
    assert kinds == ["link_state", *["turn_complete"] * bool(undelivered), *["interrupted"] * bool(void)]


def test_after_an_answer_that_the_caller_has_as_a_whole_another_may_have_begun() -> None:
    begun: dict[str, Any] = {**BEGUN, "generated_downlink_seq": 12, "said": "sunny"}
    found = state(log(text(1)), {"floor": 14, "last_audio_seq": 14}, begun)
    assert (found.finished is not None, found.void) == (True, (13, 14))


@pytest.mark.parametrize(("floor", "whole"), [(20, True), (21, True), (19, False)])
def test_an_answer_that_the_caller_has_as_a_whole_is_over(floor: int, whole: bool) -> None:
    begun: dict[str, Any] = {**BEGUN, "generated_downlink_seq": 20, "said": "sunny"}
    entries = log(text(1), said("hi", 1, 1), heard("the weather"), text(6, "and in paris"))
    found = state(entries, {"floor": floor}, begun, covered_uplink_seq=2, log_position=3, turns=1)
    assert (found.finished is not None) is whole
    assert (found.answering is None, found.void is None) == (whole, whole)
    assert found.turns == (2 if whole else 1)
    assert given(found) == {6}
    if whole:
        assert words(found.conversation.since(0)) == ["hello", "hi", "the weather", "sunny"]


def test_an_answer_of_an_older_release_has_no_number() -> None:
    assert state(log(said("hi", 1, 0)), turns=3).turns == 3


def test_a_question_that_is_heard_again_is_not_transcribed_twice() -> None:
    found = state(log(heard("before"), said("hi", 1, 1), heard("what "), heard("is")), log_position=2)
    assert found.heard == "what is"


# What the caller did not get


@pytest.mark.parametrize(("floor", "undelivered"), [(8, (9, 10)), (10, None), (12, None)])
def test_the_end_of_an_answer_that_is_with_nobody(floor: int, undelivered: tuple[int, int] | None) -> None:
    assert state(log(), {"floor": floor}, turn_end_downlink_seq=10).undelivered == undelivered


# Calls


def test_calls_that_the_model_was_told_of() -> None:
    found = state(log(told("c1", "k1"), told("c2")), handle_position=1)
    assert found.told_claims == {"k1"}
    assert [call.id for call in found.lost_calls] == ["c2"]


def test_a_handle_that_may_not_be_the_newest_any_more_restores_what_it_was_issued_for() -> None:
    """Another one comes with the end of an answer; whether it did, only an owner that handed over has written down."""
    handle = {"handle_position": 3, "issued_position": 1}
    generated = {**BEGUN, "generated_downlink_seq": 16}
    for proof, position in (
        (fabric_pb2.PROOF_OF_DEATH_RELEASED, 3),
        (fabric_pb2.PROOF_OF_DEATH_SILENT, 1),
        (fabric_pb2.PROOF_OF_DEATH_DEAD, 1),
    ):
        request = {"floor": 14, "proof": proof}
        assert state(log(text(1)), request, BEGUN, **handle).handle_position == position
        assert state(log(text(1)), request, generated, **handle).handle_position == 1
        assert state(log(text(1), said("hi", 1, 1)), request, **handle).handle_position == 1
        assert state(log(text(1), said("hi", 1, 1)), request, handle_position=3).handle_position == 3


def test_calls_that_were_made_again_may_be_waited_for_under_each_id() -> None:
    waiting = [fabric_pb2.WaitingCall(call_id=call_id, name="f") for call_id in ("c2", "c3")]
    found = state(log(told("c1"), told("c2")), handle_position=0, waiting_calls=waiting)
    assert [call.id for call in found.lost_calls] == ["c1", "c2", "c3"]


@pytest.mark.parametrize(("turn", "kept"), [(1, True), (2, False), (0, False)])
def test_of_an_answer_that_begins_anew_the_outcomes_come_again(turn: int, kept: bool) -> None:
    """Those of earlier answers do not. 0: an older release does not say."""
    outcome = told("c1", "k1")
    outcome.tool.turn = turn
    outcome.tool.response_json = "{}"
    entries = log(text(1), said("one moment", 1, 1), outcome)
    begun = {**BEGUN, "log_position": 2}
    # With the log off its question is given as it was, not asked again in words.
    found = state(entries, {"floor": 14}, begun, words=False, covered_uplink_seq=2, log_position=3, turns=1)
    assert (found.begins_anew, found.answering) == (True, None)
    assert found.conversation.has_outcomes is kept


def test_calls_that_the_caller_runs() -> None:
    call = fabric_pb2.CallerCall(call_id="c", name="open_door", arguments_json='{"door": 1}')
    [found] = state(log(), caller_calls=[call]).caller_calls
    assert found == call


def result(seq: int, *, more: bool = False) -> fabric_pb2.LogEntry:
    sent = live_pb2.ToolResult(call_id="c", will_continue=more)
    return fabric_pb2.LogEntry(request=live_pb2.ConverseRequest(seq=seq, tool_result=sent))


@pytest.mark.parametrize(
    ("entries", "again", "pending"),
    [
        ([], set(), True),
        ([result(2)], {2}, True),
        ([result(2, more=True), told("c")], set(), True),
        ([result(2, more=True), told("c"), result(3)], {3}, True),
        ([result(2, more=True), result(3), told("c")], {3}, True),
        ([result(2), told("c")], set(), False),
        ([result(2, more=True), told("c"), result(3), told("c")], set(), False),
        ([told("c")], set(), False),  # it did not come in time
        ([told("other"), result(2)], {2}, True),
    ],
)
def test_a_result_of_the_caller_is_given_to_the_model_once(
    entries: list[fabric_pb2.LogEntry], again: set[int], pending: bool
) -> None:
    """It was acked when the log had it; whether the model was told is another matter, and the log has that, too."""
    call = fabric_pb2.CallerCall(call_id="c", name="pay")
    found = state(log(text(1), said("one moment", 1, 1), *entries), caller_calls=[call], log_position=2)
    assert given(found) == again
    assert [call.call_id for call in found.caller_calls] == (["c"] if pending else [])


@pytest.mark.parametrize(("turn", "again"), [(1, False), (2, True), (0, True)])
def test_a_result_is_given_again_where_its_call_comes_again(turn: int, again: bool) -> None:
    """Else the caller would be asked for it anew, and run the call twice."""
    call = fabric_pb2.CallerCall(call_id="c", name="pay", turn=turn)
    entries = log(text(1), said("one moment", 1, 1), result(3), told("c"))
    begun = {**BEGUN, "log_position": 2}
    known = {"caller_calls": [call], "covered_uplink_seq": 2, "log_position": 3, "turns": 1}
    found = state(entries, {"floor": 14}, begun, words=False, **known)
    assert (found.begins_anew, found.answering) == (True, None)
    assert (given(found), bool(found.caller_calls)) == ({3} if again else set(), again)


# What the caller is told of losses


def untold(first: int, last: int, downlink_seq: int = 0) -> fabric_pb2.UntoldLoss:
    return fabric_pb2.UntoldLoss(gap=live_pb2.Gap(from_seq=first, to_seq=last), downlink_seq=downlink_seq)


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (untold(2, 4), (2, 4)),
        (untold(2, 4, downlink_seq=21), (2, 4)),
        (untold(2, 4, downlink_seq=20), None),  # the caller has it
        (untold(8, 12), (8, 9)),  # the rest is asked for
        (untold(10, 12), None),
    ],
)
def test_a_loss_that_the_caller_was_not_told_of(loss: fabric_pb2.UntoldLoss, named: tuple[int, int] | None) -> None:
    found = state([], {"floor": 20}, covered_uplink_seq=9, untold_losses=[loss])
    assert [(gap.from_seq, gap.to_seq) for gap in found.losses] == ([] if named is None else [named])


def test_an_answer_that_the_checkpoint_does_not_know_knows_of_newer_losses() -> None:
    answer = said("sunny", given_seq=9, turn=2)
    answer.model_said.untold_losses.append(untold(7, 8, downlink_seq=23))
    before = [untold(2, 4, downlink_seq=19)]
    found = state(log(answer), {"floor": 20}, covered_uplink_seq=5, untold_losses=before)
    assert [(gap.from_seq, gap.to_seq) for gap in found.losses] == [(7, 8)]


def test_an_answer_that_a_new_owner_finds_finished_keeps_them() -> None:
    """It may die before anything else of it is stored."""
    begun = {"turn": 1, "given_seq": 9, "first_downlink_seq": 5, "generated_downlink_seq": 15}
    known: dict[str, Any] = {"covered_uplink_seq": 9, "untold_losses": [untold(3, 4, downlink_seq=25)]}
    finished = state([], {"floor": 20}, begun, **known).finished
    assert finished is not None
    found = state(log(fabric_pb2.LogEntry(model_said=finished)), {"floor": 20}, begun, **known)
    assert [(gap.from_seq, gap.to_seq) for gap in found.losses] == [(3, 4)]


@pytest.mark.parametrize(("floor", "named"), [(20, [(8, 9)]), (14, [(1, 6), (8, 9)])])
def test_what_grew_too_old_before_its_answer_came_is_no_loss(floor: int, named: list[tuple[int, int]]) -> None:
    """Where the caller has all of the answer; else the question is given again, as far as it is there."""
    begun = {"turn": 1, "given_seq": 7, "first_downlink_seq": 5, "generated_downlink_seq": 15}
    losses = [untold(1, 6), untold(8, 9)]
    for loss in losses:
        loss.gap.reason = "TOO_OLD"
    found = state([], {"floor": floor}, begun, covered_uplink_seq=9, untold_losses=losses)
    assert [(gap.from_seq, gap.to_seq) for gap in found.losses] == named


# Who may take over


def own(handover: fabric_pb2.Handover | None = None, **fields: Any) -> fabric_pb2.OwnRecord:
    session = sessions_pb2.Session(**{"session_id": "s", "worker": "wk-old", "epoch": 3, **fields})
    return fabric_pb2.OwnRecord(session=session, handover=handover)


def asked(**fields: Any) -> fabric_pb2.TakeOver:
    values: dict[str, Any] = {"from_worker": "wk-old", "from_epoch": 3, "proof": fabric_pb2.PROOF_OF_DEATH_DEAD}
    return fabric_pb2.TakeOver(**{**values, **fields})


def test_an_owner_that_is_proven_gone_is_replaced() -> None:
    check_owner(asked(), own())


def test_an_owner_that_let_the_session_go_is_replaced() -> None:
    check_owner(asked(proof=fabric_pb2.PROOF_OF_DEATH_RELEASED), own(fabric_pb2.Handover(cause="DRAIN", epoch=3)))


@pytest.mark.parametrize(
    ("request_fields", "own_fields", "reason"),
    [
        ({"proof": fabric_pb2.PROOF_OF_DEATH_RELEASED}, {}, errors_pb2.ERROR_REASON_WORKER_LOST),
        (  # an owner of the release before kept the field
            {"proof": fabric_pb2.PROOF_OF_DEATH_RELEASED},
            {"handover": fabric_pb2.Handover(epoch=2)},
            errors_pb2.ERROR_REASON_WORKER_LOST,
        ),
        ({"from_worker": "wk-older"}, {}, errors_pb2.ERROR_REASON_WORKER_LOST),
        ({"from_epoch": 2}, {}, errors_pb2.ERROR_REASON_WORKER_LOST),
        ({"proof": 0}, {}, errors_pb2.ERROR_REASON_WORKER_LOST),
        ({}, {"state": sessions_pb2.SESSION_STATE_ENDED}, errors_pb2.ERROR_REASON_SESSION_ENDED),
    ],
)
def test_others_are_not(request_fields: dict[str, Any], own_fields: dict[str, Any], reason: int) -> None:
    with pytest.raises(ServiceError) as refused:
        check_owner(asked(**request_fields), own(**own_fields))
    assert refused.value.reason == reason


@pytest.mark.parametrize(("gateway", "may"), [("gw-1", True), ("gw-2", False)])
def test_a_gateway_that_was_silent_for_the_answer_and_counts_as_gone_by_now_goes_on(gateway: str, may: bool) -> None:
    record = fabric_pb2.AttachmentRecord(attach_generation=4, last_gateway="gw-1", resume_token_sha256=b"token")
    request = asked(attach_generation=3, gateway=gateway)
    if may:
        check_stream(request, record)
        return
    with pytest.raises(ServiceError) as refused:
        check_stream(request, record)
    assert refused.value.reason == errors_pb2.ERROR_REASON_SUPERSEDED


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"attach_generation": 4}, None),
        ({"attach_generation": 3}, None),  # an answer of ours that did not come
        ({"attach_generation": 3, "gateway": "gw-2"}, errors_pb2.ERROR_REASON_SUPERSEDED),
        ({"attach_generation": 5, "gateway": "gw-2"}, errors_pb2.ERROR_REASON_SUPERSEDED),
        ({"presented_token_sha256": b"token"}, None),
        ({"presented_token_sha256": b"guess"}, errors_pb2.ERROR_REASON_RESUME_REFUSED),
        ({}, errors_pb2.ERROR_REASON_RESUME_REFUSED),
        ({"new_token_sha256": b"new"}, None),
    ],
)
def test_who_may_have_the_session(request_fields: dict[str, Any], reason: int | None) -> None:
    record = fabric_pb2.AttachmentRecord(attach_generation=4, gateway="gw-1", resume_token_sha256=b"token")
    request = asked(**{"gateway": "gw-1", **request_fields})
    if reason is None:
        check_stream(request, record)
        return
    with pytest.raises(ServiceError) as refused:
        check_stream(request, record)
    assert refused.value.reason == reason
