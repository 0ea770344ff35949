"""From an accepted setup to a link: what it resumes, what it is recorded in, which parts decide on it."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

from emulator.actions import Mind, Part
from emulator.api.protocol import Setup
from emulator.chance import Chance
from emulator.configuration.setup import Config, accept
from emulator.endpoint.handshake import Endpoint
from emulator.endpoint.link import Link
from emulator.faults.plan import FaultPlan
from emulator.mind.chunks import Cutter
from emulator.mind.conversation import Conversation
from emulator.mind.echo import Echo
from emulator.mind.reports import UsageReports
from emulator.mind.speech import Pace
from emulator.mind.transcriber import Transcriber
from emulator.mind.transcript_order import LateTranscripts
from emulator.record import Archive, LinkFacts, LinkRecord
from emulator.scenarios.scenario import Scenario
from emulator.session.handles import DEAD, HandleStore, Owner, Session, Snapshot
from emulator.session.lifetime import Lifetime, session_limits
from emulator.session.resumption import Resumption, scope
from emulator.session.tokens import Expiry, TokenStore
from emulator.switches import Switches
from emulator.tools.ledger import Ledger
from emulator.voice import Voice

_PROJECT = re.compile(r"projects/[^/]+/locations/[^/]+")


@dataclass(frozen=True)
class Request:
    """What an upgrade request said."""

    endpoint: Endpoint
    path: str
    scenario: Scenario
    switches: Switches
    conversation: str
    """Id of the record."""
    faults: FaultPlan
    token: str | None = None
    """Name of the ephemeral token it identifies itself with."""
    project: str = ""
    """Whose key it is."""


@dataclass(frozen=True)
class Admitted:
    """What a setup led to."""

    link: Link
    session: Session
    record: LinkRecord
    grammar: str
    free: bool
    """Whether any English is understood, not only the grammar's."""
    ended: Callable[[float], None]
    """To be told as soon as the connection is over, before anything waits: the client may resume at once."""


Admit = Callable[[Setup], Admitted]
"""Checks a setup. Raises :class:`emulator.errors.Refusal`, and :class:`emulator.processes.ownership.Elsewhere`."""


class Admission:
    """What all connections share when they begin."""

    def __init__(
        self,
        *,
        handles: HandleStore,
        tokens: TokenStore,
        archive: Archive,
        voice: Voice,
        chance: Chance,
        clock: Callable[[], float],
        check_handle: Callable[[str], None] = lambda handle: None,
    ) -> None:
        self._handles = handles
        self._tokens = tokens
        self._archive = archive
        self._cutter = Cutter(voice)
        self._chance = chance
        self._clock = clock
        self._check_handle = check_handle
        """Raises :class:`emulator.processes.ownership.Elsewhere` for a handle that another process must resume."""

    def of(self, request: Request) -> Admit:
        """The check for one connection's setup."""
        return functools.partial(self._admit, request)

    def _admit(self, request: Request, setup: Setup) -> Admitted:
        endpoint, switches = request.endpoint, request.switches
        now = self._clock()
        body, token = setup.body, None
        if request.token is not None:
            token, body = self._tokens.apply(request.token, body, now)
        config = accept(body, backend=endpoint.backend, api_version=endpoint.api_version, switches=switches)
        if config.handle is not None:
            self._check_handle(config.handle)
        if token is not None:
            # Before anything has happened: another process may have been quicker.
            token.use(resuming=config.handle is not None)
        snapshot = Snapshot()
        owner = Owner(config.model, endpoint.backend, _project(body["model"]) or request.project)
        session = Session(request.conversation, owner, now)
        if config.handle is not None:
            limits = session_limits(config)
            restored = self._handles.resume(
                config.handle,
                owner,
                now,
                dead=DEAD[switches.dead_handle],
                take_over=switches.open_socket == "accepted",
                life=lambda session: limits[session.video],
            )
            session, snapshot = restored.session, restored.snapshot
        session.ttl = switches.scaled(switches.handle_ttl)
        archived = self._archive.open(session.conversation, request.scenario.name)
        record = archived.add_link(
            LinkFacts(
                index=archived.next_link_index(),
                model=config.model,
                path=request.path,
                api_version=endpoint.api_version,
                setup=setup.received,
                opened=round(now, 3),
                restored=snapshot.position,
            )
        )
        if config.handle is None:
            ids = self._chance.stream("calls", session.conversation, record.facts.index)
            session.calls.new_id = lambda: f"call_{ids.getrandbits(64):016x}"
        mind = self._mind(request, config, snapshot, record, session.calls)
        parts = self._parts(config, mind, session, record, now)
        if token is not None:
            parts.append(Expiry(token.grant.expires))
        # Last: faults concern what really is to be sent.
        parts.append(request.faults)
        link = record.facts.index + 1
        disturbed = request.faults.around(mind, conversation=session.conversation, link=link, record=record)
        return Admitted(
            Link(disturbed, parts, session_id=session.conversation if switches.session_id else None),
            session,
            record,
            request.scenario.name,
            switches.vocabulary == "open",
            self._ending(config, mind, session, record),
        )

    def _mind(self, request: Request, config: Config, snapshot: Snapshot, record: LinkRecord, ledger: Ledger) -> Mind:
        switches = request.switches
        if request.scenario.echoes:
            return Echo(record)
        kind = Transcriber if config.rules.kind == "transcription" else Conversation
        return kind(
            config,
            scenario=request.scenario,
            cutter=self._cutter,
            pace=Pace(switches.generation_speed, switches.playback_speed, switches.chunk.total_seconds()),
            snapshot=snapshot,
            record=record,
            ledger=ledger,
        )

    def _parts(self, config: Config, mind: Mind, session: Session, record: LinkRecord, now: float) -> list[Part]:
        switches = config.switches
        parts: list[Part] = []
        if switches.input_transcript_order != "before":
            parts.append(LateTranscripts(switches.input_transcript_order))
        if switches.usage != "turn" and isinstance(mind, Conversation):
            parts.append(UsageReports(switches.usage, mind.usage, now))
        if config.resumable:
            parts.append(Resumption(config, mind, _Handles(self._handles, session, record), now))
        chance = self._chance.stream("lifetime", session.conversation, record.facts.index)
        parts.append(Lifetime(config, session, record, chance, now))
        return parts

    def _ending(self, config: Config, mind: Mind, session: Session, record: LinkRecord) -> Callable[[float], None]:
        """What is to be done when the connection is over."""
        covers = config.resumable and scope(config) == "close"
        connection = session.connections

        def ended(now: float) -> None:
            covering = mind.snapshot(hearing=True) if covers else None
            if self._handles.close(session, connection, now, covering) and covering and covering.position:
                record.handle_covers(covering.position)

        return ended


class _Handles:
    """The handles of one connection, and what its record says of them."""

    def __init__(self, store: HandleStore, session: Session, record: LinkRecord) -> None:
        self._store = store
        self._session = session
        self._record = record

    def issue(self, snapshot: Snapshot, now: float) -> str:
        """A new one."""
        assert snapshot.position is not None
        own = self._store.uncover(self._session)
        if own is not None and own.position is not None:
            self._record.handle_covers(own.position)
        self._record.handle_issued(snapshot.position, at=now)
        return self._store.issue(self._session, snapshot, now)

    def cover(self, snapshot: Snapshot) -> None:
        """The newest stands for that from now on."""
        assert snapshot.position is not None
        if self._store.cover(self._session, snapshot):
            self._record.handle_covers(snapshot.position)


def _project(model: str) -> str:
    """The cloud project and region that the full name of a model on Vertex begins with."""
    found = _PROJECT.match(model)
    return found.group() if found else ""
