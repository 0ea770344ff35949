"""The model's side of a conversation: from question to answer, call by call, and what an interruption does to it.

One turn is open at a time. It ends with ``turnComplete``; what wants the word meanwhile waits in a queue. A turn
that called a BLOCKING function stays open until the response; one that called a NON_BLOCKING function ends with the
call, and the response opens another.
"""

import base64
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Any

from emulator import calls, protocol
from emulator.actions import Action, IssueHandle, Send
from emulator.calls import Call
from emulator.errors import invalid
from emulator.history import History
from emulator.record import LinkRecord
from emulator.scenario import Match, Scenario
from emulator.setup import Config
from emulator.speech import Answer, Pace
from emulator.voice import MIME_TYPE, RATE, Voice

SCHEDULING_REFUSED = "Function response scheduling is not supported for this model."
_MAX_WAITING = 64
_MAX_PENDING_CALLS = 64


@dataclass(frozen=True)
class Question:
    """What the user wants answered."""

    sentences: tuple[str, ...]
    pictures: int


@dataclass(frozen=True)
class Speech:
    """What the model wants to say by itself: the outcome of a NON_BLOCKING call."""

    text: str


class Turns:
    """The turn under way, the calls pending, and the queue."""

    def __init__(
        self, config: Config, *, scenario: Scenario, voice: Voice, pace: Pace, history: History, record: LinkRecord
    ) -> None:
        self.config = config
        self.out: list[Action] = []
        """What is to be done, in order; the owner takes it away."""
        self.held = False
        """Whether the caller has the word, so that no turn may begin."""
        self._scenario = scenario
        self._voice = voice
        self._pace = pace
        self._history = history
        self._record = record
        self._open = False
        self._answer: Answer | None = None
        self._generated = False
        self._calls: dict[str, Call] = {}
        self._awaited: set[str] = set()
        """The BLOCKING calls that the open turn waits for."""
        self._waiting: deque[Question | Speech] = deque(maxlen=_MAX_WAITING)

    @property
    def busy(self) -> bool:
        """Whether a turn is open."""
        return self._open

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is wanted."""
        return self._answer.deadline if self._answer else None

    def ask(self, question: Question, now: float) -> None:
        """Answer, as soon as the word is free."""
        self._waiting.append(question)
        self.proceed(now)

    def proceed(self, now: float) -> None:
        """Begin what waits, if nothing hinders."""
        while self._waiting and not self._open and not self.held:
            self._begin(self._waiting.popleft(), now)

    def cut_short(self, now: float, at: float) -> None:
        """A turn whose user went on speaking before it began: it opens only to be interrupted."""
        self._open = True
        self.interrupt(now, at)

    def interrupt(self, now: float, at: float | None = None) -> None:
        """Cut off the open turn, if there is one; ``at``: seconds of audio before the speech that did it."""
        if not self._open:
            return
        if at is not None and self.config.rules.announces_barge_in:
            self._send(voiceActivity={"type": "ACTIVITY_START", "audioOffset": protocol.seconds(at)})
        self._send(serverContent={"interrupted": True})
        self._record.event("interrupted", at=now)
        if self._awaited:
            ids = sorted(self._awaited)
            self._send(toolCallCancellation={"ids": ids})
            for number in ids:
                del self._calls[number]
                self._record.add("cancelled_calls", number, at=now)
            self._awaited.clear()
        self._finish_answer(now, interrupted=True)
        self._complete(now)

    def respond(self, responses: tuple[protocol.FunctionResponse, ...], now: float) -> None:
        """Outcomes of calls; what belongs to no pending call is ignored."""
        for response in responses:
            body = response.response
            inside = body.get("scheduling", "") if isinstance(body, dict) else ""
            scheduling = (response.scheduling or str(inside)).upper()
            if scheduling and self.config.rules.scheduling == "refused":
                raise invalid(SCHEDULING_REFUSED)
            call = self._calls.get(response.id) or self._by_name(response)
            if call is None or (response.will_continue and not call.function.blocking):
                continue
            del self._calls[call.id]
            self._settle(call, response, scheduling if self.config.rules.scheduling == "allowed" else "", now)
        self.proceed(now)

    def tick(self, now: float) -> None:
        """Send what is due; end what has been played."""
        answer = self._answer
        if answer is None:
            return
        for chunk in answer.due(now):
            self._send_chunk(chunk.pcm, chunk.words)
        if answer.generated and not self._generated:
            self._generated = True
            self._send(serverContent={"generationComplete": True})
        if answer.generated and now >= answer.played_at:
            self._finish_answer(now, interrupted=False)
            self._complete(now)
            self.proceed(now)

    def _begin(self, what: Question | Speech, now: float) -> None:
        self._open = True
        if isinstance(what, Speech):
            self._speak(what.text, now)
            return
        match = self._match(what.sentences)
        if match.rule is None:
            self._speak(self._scenario.file.unknown, now)
        elif match.rule.call is None:
            self._speak(self._scenario.word(match.rule.say, {"pictures": what.pictures, **match.slots}), now)
        else:
            self._call(match, match.rule.call.tool, now)

    def _match(self, sentences: tuple[str, ...]) -> Match:
        """The last sentence that means something, else all of them together."""
        for sentence in reversed(sentences):
            match = self._scenario.match(sentence)
            if match.rule is not None:
                return match
        return self._scenario.match(" ".join(sentences))

    def _call(self, match: Match, tool: str, now: float) -> None:
        function = self.config.functions.get(tool)
        if function is None or len(self._calls) >= _MAX_PENDING_CALLS:
            self._speak(self._scenario.file.tool_missing, now)
            return
        arguments = calls.fit(self._scenario.arguments(match), function)
        call = Call(f"call_{secrets.token_hex(8)}", function, arguments, match)
        self._calls[call.id] = call
        self._record.add("tool_calls", {**call.message, "blocking": function.blocking}, at=now)
        message = {"functionCalls": [call.message]}
        rules = self.config.rules
        if function.blocking:
            self._awaited.add(call.id)
            self._send(toolCall=message)
            if rules.completes_at_blocking_call:
                self._send_complete(now)
        elif rules.interaction_status == "full":
            self._complete(now)
            self._send(toolCall=message)
        else:
            self._send(toolCall=message)
            self._complete(now)

    def _by_name(self, response: protocol.FunctionResponse) -> Call | None:
        """Responses without an id (Vertex) mean the oldest call of that name."""
        if response.id:
            return None
        return next((call for call in self._calls.values() if call.function.name == response.name), None)

    def _settle(self, call: Call, response: protocol.FunctionResponse, scheduling: str, now: float) -> None:
        fields, failed = calls.outcome(response)
        assert call.match.rule is not None
        file = self._scenario.file
        values = {**call.match.slots, **fields}
        text = file.tool_failed if failed else self._scenario.word(call.match.rule.say, values)
        if call.id in self._awaited:
            self._awaited.discard(call.id)
            if not self._awaited:
                self._speak(text, now)
        elif scheduling == "SILENT":
            self._history.result(text)
        else:
            if scheduling in ("INTERRUPT", "INTERRUPTED"):
                self.interrupt(now)
            self._waiting.append(Speech(text))

    def _speak(self, text: str, now: float) -> None:
        pieces = self._voice.say(text)
        if not pieces:
            self._complete(now)
            return
        self._answer, self._generated = Answer(pieces, self._pace, now), False
        self.tick(now)

    def _finish_answer(self, now: float, *, interrupted: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        # What was not sent was never said.
        self._history.model(answer.said)
        said = {
            "text": answer.said,
            "interrupted": interrupted,
            "audio_seconds_sent": round(answer.sent_seconds, 3),
            "audio_seconds": round(answer.seconds, 3),
        }
        self._record.add("said", said, at=now)

    def _complete(self, now: float) -> None:
        """End the turn."""
        self._open = False
        self._send_complete(now)
        if self.config.resumable and not self._calls:
            self.out.append(IssueHandle(self._history.snapshot()))

    def _send_complete(self, now: float) -> None:
        content: dict[str, Any] = {"turnComplete": True}
        status = self.config.rules.interaction_status
        if status == "full" and self._calls:
            content["interactionStatus"] = "IN_PROGRESS"
        elif status != "none" and not self._calls:
            content["interactionStatus"] = "IDLE"
        usage = self._history.meter.close_turn()
        self._record.used(usage)
        self._record.event("turn_complete", at=now)
        self._send(serverContent=content, usageMetadata=usage)

    def _send_chunk(self, pcm: bytes, words: tuple[str, ...]) -> None:
        blob = {"mimeType": MIME_TYPE, "data": base64.b64encode(pcm).decode()}
        content: dict[str, Any] = {"modelTurn": {"role": "model", "parts": [{"inlineData": blob}]}}
        if words and self.config.output_transcription:
            content["outputTranscription"] = {"text": " ".join(words) + " "}
        self._history.meter.spoken_seconds += len(pcm) / (2 * RATE)
        self._send(serverContent=content)

    def _send(self, **message: Any) -> None:
        self.out.append(Send(message))
