"""What the model's events mean for the session: what its caller is told, what is written down, which calls begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.genai import types

from parley.v1 import fabric_pb2, live_pb2
from services.fabric import telemetry
from services.session_worker import events, measured, responses
from services.session_worker.call_recovery import Owed
from services.session_worker.callertools import Answered
from services.session_worker.turns import RepeatedTranscript, Turn

if TYPE_CHECKING:
    from services.session_worker.parts import Parts


class Dialogue:
    """One session's."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._repeated = RepeatedTranscript("")

    def was_heard(self, text: str) -> None:
        """The caller has been told this transcript of what the next link is given again as audio."""
        self._repeated = RepeatedTranscript(text)

    def on_event(self, event: events.Event, now: float) -> None:
        """Something came from the link."""
        parts, turns = self._parts, self._parts.turns
        if parts.ending.told:
            return
        if isinstance(event, events.InputTranscript):
            heard, event = event, self._repeated.news(event)
            if not event.text:
                ends = None if heard.text else responses.response_for(heard, parts.spec.config)
                if ends is not None:  # the last piece of an utterance, without another word
                    parts.say(ends)
                return
        ended = turns.on_event(event, now)
        turn = turns.current
        turn_begins = parts.spans.on_event(event, ended or turn)  # before the checkpoint, which has its context
        answers = turn is not None and turn.first_output is not None
        if turn is not None and answers:
            round_trip = parts.links.round_trip
            if parts.answering.begins(now, turn.number, parts.downlink.last_seq + 1, round_trip) or turn_begins:
                parts.checkpoints.write()
        self._pass_on(event, now)
        if isinstance(event, events.GenerationComplete) and turn is not None and not turns.pending_calls:
            parts.answering.generated(turn.said, parts.downlink.last_seq)
            parts.checkpoints.write()
        if isinstance(event, events.InputTranscript):
            transcript = live_pb2.Transcript(text=event.text, finished=event.finished, language=event.language)
            parts.log(fabric_pb2.LogEntry(input_transcript=transcript))
        if ended is not None:
            self._on_turn_end(ended, now)

    def _pass_on(self, event: events.Event, now: float) -> None:
        parts = self._parts
        match event:
            case events.Interrupted():
                parts.downlink.interrupt(live_pb2.INTERRUPTION_REASON_BARGE_IN)
                parts.wake()
            case events.FunctionCall() if event.name in parts.caller_tools:
                self._call_caller(event, now)
            case events.FunctionCall():
                parts.tools.start(event, parts.turns.count, parts.answering.turn, parts.spans.context)
            case events.CallsCancelled(ids=ids):
                with telemetry.within(parts.spans.context):
                    parts.tools.cancel(ids)
                self.tell_cancelled(parts.caller_tools.cancel(ids))
            case events.HandleUpdate() | events.GoAway():
                pass  # the keeper of links follows them
            case _:
                response = responses.response_for(event, parts.spec.config)
                if response is not None:
                    parts.say(response, responses.audio_milliseconds(event) if isinstance(event, events.Audio) else 0)

    def _on_turn_end(self, turn: Turn, now: float) -> None:
        parts = self._parts
        parts.feeder.turn_ended()
        parts.spans.finish(turn)
        parts.timeline.turn_over(turn)
        measured.turn_over(turn)
        if turn.tool_calls and not turn.said and turn.first_audio is None:
            return  # the answer is still to come
        answered = parts.answering.answered(turn, now, parts.links.round_trip)
        if answered is None:
            return  # as well
        question, position = answered
        # What was to be heard again has been, or was asked in words: the same words are new from now on.
        self._repeated = RepeatedTranscript("")
        said = fabric_pb2.ModelSaid(
            text=turn.said,
            interrupted=turn.interrupted,
            given_seq=question.seq,
            turn=turn.number,
            given_position=position,
            last_downlink_seq=parts.downlink.last_seq,
            untold_losses=parts.downlink.untold_losses,
        )
        parts.log(fabric_pb2.LogEntry(model_said=said))
        parts.journal.turn_ended(now, question, parts.conversation.settled)
        parts.answering.over()
        self.tell_cancelled(parts.caller_tools.answer_over())
        parts.checkpoints.turn_ended(parts.downlink.last_seq)
        parts.checkpoints.write()
        if turn.said or turn.first_audio is not None:
            for owed in parts.tools.left_behind(turn.number):
                self.finish_call(owed)

    def finish_call(self, owed: Owed) -> None:
        """Give the model the outcome of a call whose link is gone."""
        self._parts.links.adopt(owed.call)
        self._parts.tasks.keep(self._parts.tools.finish(owed, self.respond), "finish a call")

    def restart(self, turn: Turn) -> None:
        """The link was lost in the middle of a turn: what was heard of the answer is void."""
        parts = self._parts
        if parts.ending.told:
            return
        parts.spans.finish(turn, "the link was lost in the middle of the turn")
        parts.timeline.turn_restarted(turn)
        measured.turn_restarted()
        self._repeated = RepeatedTranscript(turn.heard)
        if turn.said or turn.first_audio is not None:
            parts.downlink.interrupt(live_pb2.INTERRUPTION_REASON_RESTARTED)
            parts.wake()

    def generated_anew(self, answer: int) -> None:
        """The answer that began with this turn is asked for again: its calls come again, and are the same calls."""
        self._parts.tools.answer_restarted(answer)
        self._parts.caller_tools.answer_restarted(answer)

    # Calls that the caller runs

    def _call_caller(self, call: events.FunctionCall, now: float) -> None:
        parts = self._parts
        match parts.caller_tools.call(call, parts.turns.count, parts.answering.turn, now):
            case live_pb2.ToolCall() as told:
                parts.say(live_pb2.ConverseResponse(tool_call=told))
                parts.checkpoints.write()
            case Answered() as answered:
                self.answer(answered)
            case None:
                pass

    def expire_calls(self, now: float) -> None:
        """Calls that the caller has not answered in time are answered for it."""
        for answered in self._parts.caller_tools.expire(now):
            self.tell_cancelled([answered.told_as])
            self.answer(answered)

    def tell_cancelled(self, call_ids: list[str]) -> None:
        """Nobody wants the results of these."""
        if call_ids:
            cancelled = live_pb2.ToolCallCancelled(call_ids=call_ids)
            self._parts.say(live_pb2.ConverseResponse(tool_call_cancelled=cancelled))

    def answer(self, answered: Answered) -> None:
        """Give the model the result of a call that the caller ran, or did not."""
        if answered.final:
            self._parts.timeline.caller_answered(answered.told_as, answered.call.name, answered.outcome)
        self._parts.tasks.keep(self._answer(answered), "answer a call")

    async def _answer(self, answered: Answered) -> None:
        call, response = answered.call, answered.response
        silent = response.scheduling == types.FunctionResponseScheduling.SILENT
        record = responses.tool_record(
            call, response.response or {}, answered.outcome, turn=answered.turn, silent=silent
        )
        record.told_as = answered.told_as
        self._parts.log(fabric_pb2.LogEntry(tool=record))
        await self._parts.links.answer(response, final=answered.final)

    async def respond(self, response: types.FunctionResponse) -> None:
        """Give the model the result of a call that the tools service ran."""
        await self._parts.links.answer(response)

    async def respond_partly(self, response: types.FunctionResponse) -> None:
        """The same of a result that is not the last: lost where the link that called is gone."""
        await self._parts.links.answer_partly(response)
