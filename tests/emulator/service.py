"""The whole emulator without sockets: connections are dialled, closed and resumed on a clock that is told the time."""

import json
from collections.abc import Callable
from typing import Any

from emulator.actions import Action, Close, ForgetHandles, Listen, Send
from emulator.api.protocol import Audio, Decoder, Event, Setup
from emulator.chance import Chance
from emulator.endpoint.admission import Admission, Request
from emulator.endpoint.handshake import Endpoint
from emulator.errors import Refusal
from emulator.faults.orders import Orders
from emulator.faults.text import parse
from emulator.record import Archive
from emulator.scenarios.scenario import Scenario
from emulator.session.handles import HandleStore, Snapshot
from emulator.session.tokens import TokenStore
from emulator.switches import Switches
from tests.emulator.caller import SUPPORT, VOICE, typed

RATE = "audio/pcm;rate=16000"
# Answers take as long as they sound, and are sent at once.
UNLIMITED = dict.fromkeys(("connection_limit", "audio_session_limit", "video_session_limit"), "1000h")
SWITCHES: dict[str, Any] = {"generation_speed": 1000, "go_away": "never", **UNLIMITED}


class Service:
    """What all connections share, and the time."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        self.handles = HandleStore(limit=1000)
        self.tokens = TokenStore(limit=10)
        self.archive = Archive(kept=10, items=10_000, audio_limit=0)
        chance = Chance(seed)
        self._orders = Orders(chance.stream)
        self._admission = Admission(
            handles=self.handles,
            tokens=self.tokens,
            archive=self.archive,
            voice=VOICE,
            chance=chance,
            clock=lambda: self.now,
        )

    def dial(
        self,
        handle: str | None = None,
        *,
        model: str = "gemini-3.8-live",
        backend: Any = "developer",
        project: str = "key",
        scenario: Scenario = SUPPORT,
        switches: dict[str, Any] | None = None,
        faults: str = "",
        **setup: Any,
    ) -> "Line":
        """A connection whose setup asks for handles, or resumes by one. Raises the refusal of a setup."""
        version = "v1beta" if backend == "developer" else "v1beta1"
        prefix = "models" if backend == "developer" else "publishers/google/models"
        if "/" in model:
            prefix, _, model = model.rpartition("/")
        resumption = {} if handle is None else {"sessionResumption": {"handle": handle}}
        wanted = {"model": f"{prefix}/{model}", "sessionResumption": {}, **resumption, **setup}
        decoder = Decoder(backend, version, strict=True)
        frame = decoder.decode(json.dumps({"setup": wanted}))
        assert isinstance(frame, Setup)
        chosen = Switches().changed(SWITCHES | (switches or {}))
        plan = self._orders.dialled("c", scenario.name, parse(faults))
        request = Request(Endpoint(backend, version), "/", scenario, chosen, "c", plan, project=project)
        return Line(self, decoder, self._admission.of(request)(frame))


class Line:
    """One connection."""

    def __init__(self, service: Service, decoder: Decoder, admitted: Any) -> None:
        self._service = service
        self._decoder = decoder
        self.admitted = admitted
        self.session = admitted.session
        self.messages: list[dict[str, Any]] = []
        """All that the client was sent."""
        self.listening: list[Listen] = []
        """Utterances that wait to be understood."""
        self.closed: Refusal | None = None
        admitted.session.displace = self._end
        self._do(lambda: admitted.link.start(service.now))

    def _do(self, decision: Callable[[], list[Action]]) -> list[dict[str, Any]]:
        before = len(self.messages)
        for action in decision():
            match action:
                case _ if self.closed is not None:
                    break
                case Send(message):
                    # What goes out must be JSON.
                    self.messages.append(json.loads(json.dumps(message)))
                case Listen():
                    self.listening.append(action)
                case Close(refusal):
                    self._end(refusal)
                case ForgetHandles(newest_only):
                    self._service.handles.forget("c", newest_only=newest_only)
        return self.messages[before:]

    def _end(self, refusal: Refusal) -> None:
        self.closed = refusal
        self.admitted.ended(self._service.now)

    def close(self) -> None:
        """The client closes."""
        self.admitted.ended(self._service.now)

    def take(self, event: Event) -> list[dict[str, Any]]:
        """A client message; what it brings at once."""
        return self._do(lambda: self.admitted.link.apply(event, self._service.now))

    def send(self, **message: Any) -> list[dict[str, Any]]:
        """The same in JSON."""
        return self.take(self._decoder.decode(json.dumps(message)))

    def ask(self, text: str) -> list[dict[str, Any]]:
        """A typed turn."""
        return self.send(clientContent=typed(text))

    def type(self, text: str) -> list[dict[str, Any]]:
        """Realtime text."""
        return self.send(realtimeInput={"text": text})

    def show(self) -> list[dict[str, Any]]:
        """A picture."""
        return self.send(realtimeInput={"video": {"data": "iVBORw0KGgo=", "mimeType": "image/png"}})

    def hear(self, pcm: bytes) -> list[dict[str, Any]]:
        """A piece of audio at 16 kHz."""
        return self.take(Audio(pcm, RATE))

    def understood(self, text: str | None) -> list[dict[str, Any]]:
        """The oldest utterance that waits is understood."""
        listen = self.listening.pop(0)
        return self._do(lambda: self.admitted.link.heard(listen.number, text, self._service.now))

    def later(self, seconds: float) -> list[dict[str, Any]]:
        """All that is due in the next ``seconds``."""
        until, done = self._service.now + seconds, list[dict[str, Any]]()
        while self.closed is None and (deadline := self.admitted.link.deadline) is not None and deadline <= until:
            self._service.now = max(self._service.now, deadline)
            done += self._do(lambda: self.admitted.link.tick(self._service.now))
        self._service.now = until
        return done

    @property
    def updates(self) -> list[dict[str, Any]]:
        """All news about resumption."""
        return [message["sessionResumptionUpdate"] for message in self.messages if "sessionResumptionUpdate" in message]

    @property
    def handles(self) -> list[str]:
        """All handles that the client was sent."""
        return [update["newHandle"] for update in self.updates if "newHandle" in update]

    @property
    def knows(self) -> Snapshot:
        """What the model remembers now."""
        snapshot: Snapshot = self.admitted.link._mind.snapshot(hearing=False)
        return snapshot

    def said(self) -> list[str]:
        """What the model said on this connection."""
        return [said["text"] for said in self.admitted.record.view()["said"]]


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """In short."""
    found = []
    for message in messages:
        for name, body in message.items():
            if name == "serverContent":
                found += [flag for flag in body if flag not in ("outputTranscription", "interactionStatus")]
            elif name == "sessionResumptionUpdate":
                found.append("handle" if "newHandle" in body else "not resumable")
            elif name != "usageMetadata":
                found.append(name)
    return [
        kind for index, kind in enumerate(found) if kind != "modelTurn" or found[index - 1 : index] != ["modelTurn"]
    ]
