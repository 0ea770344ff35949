"""From an accepted setup to a link: what it resumes, what it is recorded in, which parts decide on it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from emulator.actions import Mind, Part
from emulator.conversation import Conversation
from emulator.echo import Echo
from emulator.handles import HandleStore, Session, Snapshot
from emulator.handshake import Endpoint
from emulator.link import Link
from emulator.protocol import Setup
from emulator.record import Archive, LinkFacts, LinkRecord
from emulator.scenario import Scenario
from emulator.setup import Config, accept
from emulator.speech import Pace
from emulator.switches import Switches
from emulator.vad import Sensitivity
from emulator.voice import Voice


@dataclass(frozen=True)
class Request:
    """What an upgrade request said."""

    endpoint: Endpoint
    path: str
    scenario: Scenario
    switches: Switches
    conversation: str
    """Id of the record."""


@dataclass(frozen=True)
class Admitted:
    """What a setup led to."""

    link: Link
    session: Session
    record: LinkRecord
    grammar: str


Admit = Callable[[Setup], Admitted]
"""Checks a setup. Raises :class:`emulator.errors.Refusal`."""


class Admission:
    """What all connections share when they begin."""

    def __init__(self, *, handles: HandleStore, archive: Archive, voice: Voice, clock: Callable[[], float]) -> None:
        self._handles = handles
        self._archive = archive
        self._voice = voice
        self._clock = clock

    def of(self, request: Request) -> Admit:
        """The check for one connection's setup."""
        return functools.partial(self._admit, request)

    def _admit(self, request: Request, setup: Setup) -> Admitted:
        endpoint, switches = request.endpoint, request.switches
        config = accept(setup.body, backend=endpoint.backend, api_version=endpoint.api_version, switches=switches)
        now = self._clock()
        snapshot = Snapshot()
        resumed_from: int | None = None
        session = Session(request.conversation, config.model)
        if config.handle is not None:
            restored = self._handles.resume(config.handle, config.model, now)
            session, snapshot, resumed_from = restored.session, restored.snapshot, restored.link
        archived = self._archive.open(session.conversation, request.scenario.name)
        record = archived.add_link(
            LinkFacts(
                index=archived.next_link_index(),
                model=config.model,
                path=request.path,
                api_version=endpoint.api_version,
                setup=setup.received,
                opened=round(now, 3),
                resumed_from=resumed_from,
            )
        )
        mind: Mind
        if request.scenario.echoes:
            mind = Echo(record)
        else:
            mind = Conversation(
                config,
                scenario=request.scenario,
                voice=self._voice,
                pace=Pace(switches.generation_speed, switches.playback_speed, switches.chunk.total_seconds()),
                sensitivity=sensitivity(config),
                gate=switches.vad_loudness,
                snapshot=snapshot,
                record=record,
            )
        parts: list[Part] = []
        return Admitted(Link(mind, parts), session, record, request.scenario.name)


def sensitivity(config: Config) -> Sensitivity:
    """When speech begins and ends: as the setup says, else as the switches do."""
    wanted, switches = config.detection, config.switches
    found = Sensitivity(
        prefix=switches.vad_prefix.total_seconds(),
        silence=switches.vad_silence.total_seconds(),
        longest=switches.max_utterance.total_seconds(),
        easy_start=wanted.easy_start,
        easy_end=wanted.easy_end,
    )
    if wanted.prefix_ms is not None:
        found = replace(found, prefix=wanted.prefix_ms / 1000)
    if wanted.silence_ms is not None:
        found = replace(found, silence=wanted.silence_ms / 1000)
    return found
