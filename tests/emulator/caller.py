"""A caller of the deciding parts, without sockets: events and a clock go in, what is to be done comes out."""

import json
from typing import Any

from emulator.actions import Guess, IssueHandle, Listen, Note, Send
from emulator.api.protocol import Audio, Decoder, Setup
from emulator.configuration.setup import accept
from emulator.mind.chunks import Cutter
from emulator.mind.conversation import Conversation
from emulator.mind.speech import Pace
from emulator.record import Archive, LinkFacts, LinkRecord
from emulator.scenarios.scenario import Scenario, ScenarioFile, named
from emulator.session.handles import Snapshot
from emulator.switches import Switches
from emulator.tools.ledger import Ledger
from emulator.voice import Voice
from tests.support.speech import question

SUPPORT = named("support")
WORDS = "hello how can i help you sorry did not understand that it is sunny in paris london and twenty one degrees"
# Every word lasts a second at 24 kHz, so that times are easy to read.
VOICE = Voice({word: bytes(24000 * 2 - 2880) for word in WORDS.split()})
PACE = Pace(generation_speed=4.0, playback_speed=1.0, chunk=0.5)
GREETING_SECONDS = 6.0
"""How long the answer to ``hello`` is played."""


def link_record() -> LinkRecord:
    record = Archive(kept=1, items=1000, audio_limit=0).open("c", "support")
    return record.add_link(LinkFacts(0, "m", "/", "v1beta", {}, 0.0))


def scenario(*rules: dict[str, Any], **fields: Any) -> Scenario:
    """A scenario of these rules, with apologies that :data:`VOICE` knows; the slot ``city`` is Paris or London."""
    common: dict[str, Any] = {
        "name": "written",
        "slots": {"city": ["paris", "london"]},
        "unknown": "sorry",
        "tool_failed": "sorry that",
        "tool_missing": "sorry not",
    }
    return Scenario(ScenarioFile.model_validate({**common, **fields, "rules": list(rules)}))


class Caller:
    """Speaks to a conversation and keeps what it does, message by message in short form.

    ``setup`` are fields of the setup message; ``switches`` are those of the emulator.
    """

    def __init__(
        self,
        model: str = "gemini-3.8-live",
        snapshot: Snapshot | None = None,
        *,
        switches: dict[str, Any] | None = None,
        scenario: Scenario = SUPPORT,
        backend: str = "developer",
        api_version: str = "v1beta",
        record: LinkRecord | None = None,
        ledger: Ledger | None = None,
        **setup: Any,
    ) -> None:
        prefix = "models" if backend == "developer" else "publishers/google/models"
        self.decoder = Decoder(backend, api_version, strict=True)
        parsed = self.decoder.decode(json.dumps({"setup": {"model": f"{prefix}/{model}", **setup}}))
        assert isinstance(parsed, Setup)
        self.record = record or link_record()
        chosen = Switches().changed(scenario.file.switches).changed(switches or {})
        self.config = accept(parsed.body, backend=backend, api_version=api_version, switches=chosen)
        self.mind = Conversation(
            self.config,
            scenario=scenario,
            cutter=Cutter(VOICE),
            pace=PACE,
            snapshot=snapshot or Snapshot(),
            record=self.record,
            ledger=ledger,
        )
        self.now = 0.0
        self.messages: list[dict[str, Any]] = []
        """What the latest call brought."""
        self.listening: list[Listen] = []
        self.guessing: list[Guess] = []
        self.snapshots: list[Snapshot] = []
        self.notes: list[str] = []
        """All that happened, by name."""

    def _take(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self.messages.append(message)
                case Listen():
                    self.listening.append(action)
                case Guess():
                    self.guessing.append(action)
                case IssueHandle(snapshot):
                    self.messages.append({"sessionResumptionUpdate": {}})
                    self.snapshots.append(snapshot)
                case Note(what):
                    self.notes.append(what)

    def start(self) -> list[str]:
        """The connection begins."""
        self.messages.clear()
        self._take(self.mind.start(self.now))
        return self.summary()

    def send(self, **message: Any) -> list[str]:
        """One client message."""
        self.messages.clear()
        self._take(self.mind.apply(self.decoder.decode(json.dumps(message)), self.now))
        return self.summary()

    def ask(self, text: str) -> list[str]:
        """A typed turn."""
        return self.send(clientContent=typed(text))

    def speak(self, name: str = "weather_paris") -> list[str]:
        """A whole question, with the silence that ends it."""
        self.messages.clear()
        for pcm in (question(name), bytes(24000)):
            self._hear(pcm)
        return self.summary()

    def hear(self, pcm: bytes) -> list[str]:
        """A piece of audio at 16 kHz."""
        self.messages.clear()
        self._hear(pcm)
        return self.summary()

    def _hear(self, pcm: bytes) -> None:
        self._take(self.mind.apply(Audio(pcm, "audio/pcm;rate=16000"), self.now))

    def begin_to_speak(self) -> list[str]:
        """The first second of a question."""
        return self.hear(question("weather_paris")[:32000])

    def understood(self, text: str | None) -> list[str]:
        """The outcome of the latest utterance."""
        self.messages.clear()
        self._take(self.mind.heard(self.listening[-1].number, text, self.now))
        return self.summary()

    def guessed(self, text: str | None) -> list[str]:
        """The outcome of the latest guess."""
        self.messages.clear()
        self._take(self.mind.guessed(self.guessing[-1].number, text, self.now))
        return self.summary()

    def until(self, time: float) -> list[str]:
        """Everything that is due until ``time``."""
        self.messages.clear()
        while (deadline := self.mind.deadline) is not None and deadline <= time:
            self.now = max(self.now, deadline)
            self._take(self.mind.tick(self.now))
        self.now = max(self.now, time)
        return self.summary()

    def calls(self) -> list[dict[str, Any]]:
        """All function calls so far."""
        calls: list[dict[str, Any]] = self.record.view()["tool_calls"]
        return calls

    def respond(self, response: dict[str, Any], *, call: int = -1, **fields: Any) -> list[str]:
        """The outcome of a call, the latest unless another is meant."""
        made = self.calls()[call]
        entry = {"id": made["id"], "name": made["name"], "response": response, **fields}
        return self.send(tool_response={"functionResponses": [entry]})

    def said(self) -> list[dict[str, Any]]:
        """The answers that were spoken, or begun."""
        said: list[dict[str, Any]] = self.record.view()["said"]
        return said

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the record holds of that kind."""
        return [event for event in self.record._conversation.events if event["kind"] == kind]

    def summary(self) -> list[str]:
        """The kinds of the latest messages; chunks of speech in a row are one."""
        found: list[str] = []
        for message in self.messages:
            for kind, body in message.items():
                if kind == "serverContent":
                    names = [name for name in body if name not in ("outputTranscription", "interactionStatus")]
                else:
                    names = [kind] if kind != "usageMetadata" else []
                found.extend(name for name in names if not (name == "modelTurn" and found[-1:] == ["modelTurn"]))
        return found

    def contents(self, name: str) -> list[Any]:
        """That member of every ``serverContent`` of the latest messages that has it."""
        contents = [message.get("serverContent", {}) for message in self.messages]
        return [content[name] for content in contents if name in content]


def typed(text: str, **fields: Any) -> dict[str, Any]:
    """``clientContent`` with one user turn, complete unless told otherwise."""
    return {"turns": [{"role": "user", "parts": [{"text": text}]}], "turnComplete": True, **fields}
