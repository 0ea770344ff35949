"""When a connection ends by its age or its session's, and what it says before: goAway, the limit, silence."""

import math
from random import Random

from emulator import texts
from emulator.actions import Action, Close, Reset, Send, SendRaw
from emulator.api import protocol
from emulator.api.protocol import Event, MediaChunks, Video
from emulator.configuration.setup import Config
from emulator.record import LinkRecord
from emulator.session.handles import Session

_LIMIT = {"1008": texts.GO_AWAY, "1011": texts.DEADLINE}


class Lifetime:
    """A :class:`emulator.actions.Part`.

    A connection has its own limit. A session has one too, unless its context is compressed: fifteen minutes, or two
    once pictures were streamed (guide on session management), counted over all its connections. The first to come
    counts.
    """

    def __init__(self, config: Config, session: Session, record: LinkRecord, chance: Random, now: float) -> None:
        switches = config.switches
        self._session = session
        self._record = record
        self._go_away = switches.go_away
        self._quiet_after_go_away = switches.after_go_away == "silence"
        self._after_limit = switches.after_limit
        self._reason = _LIMIT[config.rules.limit_close]
        self._opened = now
        self._shown = -math.inf
        """When the first picture came, which shortens the session."""
        self._limit = now + switches.scaled(switches.connection_limit)
        self._session_limits = session_limits(config)
        jitter = switches.scaled(switches.go_away_jitter) * chance.random()
        self._lead = max(0.0, switches.scaled(switches.go_away_lead) - jitter)
        self._warned = self._go_away == "never"
        self._over = False
        self._silent = False
        self.deadline: float | None = None
        """When goAway or the limit is due."""
        self._plan()

    def _plan(self) -> None:
        if self._over:
            self.deadline = None
        else:
            self.deadline = self._ends if self._warned else max(self._opened, self._ends - self._lead)

    @property
    def _ends(self) -> float:
        return min(self._limit, self._session_ends)

    @property
    def _session_ends(self) -> float:
        limit, begun = self._session_limits[self._session.video], self._opened - self._session.used
        # Where a picture comes when the limit with pictures is over already, there is still time for goAway: as much as
        # there was without the picture.
        grace = min(self._shown + min(limit, self._lead), begun + self._session_limits[False])
        return max(begun + limit, self._opened, grace)

    def apply(self, event: Event, now: float) -> list[Action]:
        """A client message; the first picture shortens the session."""
        if isinstance(event, Video | MediaChunks) and not self._session.video and _shows(event):
            self._session.video, self._shown = True, now
            self._plan()
        if self._over and self._after_limit == "lazy":
            return [Close(self._reason.refusal())]
        return self.tick(now)

    def tick(self, now: float) -> list[Action]:
        """goAway, then the end."""
        actions: list[Action] = []
        while self.deadline is not None and self.deadline <= now:
            actions += self._end(now) if self._warned else self._warn(now)
            self._plan()
        return actions

    def passing(self, action: Action, _now: float) -> list[Action]:
        """What others want done; once it is silent nothing reaches the client any more."""
        return [] if self._silent and isinstance(action, Send | SendRaw | Close) else [action]

    def _warn(self, now: float) -> list[Action]:
        self._warned = True
        if self._session_ends <= self._limit:
            if self._session.warned:
                # Who has resumed since would only resume again, and again.
                return []
            self._session.warned = True
        self._silent = self._quiet_after_go_away
        left = max(0.0, self._ends - now)
        self._record.event("go_away", at=now, seconds_left=round(left, 3))
        message = {"timeLeft": protocol.seconds(left)} if self._go_away == "time_left" else {}
        return [Send({"goAway": message})]

    def _end(self, now: float) -> list[Action]:
        self._over = True
        self._record.event("limit", at=now)
        match self._after_limit:
            case "reset":
                return [Reset()]
            case "silence":
                self._silent = True
                return []
            case "lazy":
                return []
            case "model":
                return [Close(self._reason.refusal())]
            case code:
                return [Close(_LIMIT[code].refusal())]


def session_limits(config: Config) -> dict[bool, float]:
    """How long a session may be open, without and with pictures; real seconds."""
    switches = config.switches
    if config.compression:
        return {False: math.inf, True: math.inf}
    return {False: switches.scaled(switches.audio_session_limit), True: switches.scaled(switches.video_session_limit)}


def _shows(event: Video | MediaChunks) -> bool:
    """Whether it has a picture."""
    return isinstance(event, Video) or any(mime_type.startswith("image/") for _, mime_type in event.chunks)
