"""A session as others see it, and what happened to it between two looks at its records. Plain code: no I/O."""

from __future__ import annotations

from parley.v1 import fabric_pb2, sessions_pb2

_ENDED = sessions_pb2.SESSION_STATE_ENDED
Event = sessions_pb2.WatchSessionResponse


def shown(session: sessions_pb2.Session, attachment: fabric_pb2.AttachmentRecord | None) -> sessions_pb2.Session:
    """The session of an `own` record together with its attachment, where it lives."""
    view = sessions_pb2.Session()
    view.CopyFrom(session)
    if session.state == _ENDED:
        return view
    view.gateway = ""
    if attachment is not None:
        view.gateway, view.attach_generation = attachment.gateway, attachment.attach_generation
    view.state = sessions_pb2.SESSION_STATE_ATTACHED if view.gateway else sessions_pb2.SESSION_STATE_DETACHED
    return view


class Lifecycle:
    """What a watcher knows of one session.

    It is told records in any order, repeatedly, and not all of them: a record holds the newest state only. What is
    older than what it knows it ignores, what is the same is no event.
    """

    def __init__(
        self, own: fabric_pb2.OwnRecord, revision: int, attachment: fabric_pb2.AttachmentRecord | None
    ) -> None:
        self._session = own.session
        self._revision = revision
        self._attachment = attachment

    @property
    def ended(self) -> bool:
        """Nothing more will happen."""
        return self._session.state == _ENDED

    def current(self) -> Event:
        """The session as it is now, as the first event of a watch."""
        return self._event(sessions_pb2.SESSION_EVENT_TYPE_CURRENT)

    def own(self, record: fabric_pb2.OwnRecord, revision: int) -> Event | None:
        """`own` is this; what that means for the session."""
        if self.ended or revision <= self._revision:
            return None
        before, self._session, self._revision = self._session, record.session, revision
        if self.ended:
            return self._event(sessions_pb2.SESSION_EVENT_TYPE_ENDED)
        if (before.epoch, before.worker) != (record.session.epoch, record.session.worker):
            return self._event(sessions_pb2.SESSION_EVENT_TYPE_MOVED)
        return None

    def attachment(self, record: fabric_pb2.AttachmentRecord) -> Event | None:
        """The attachment is this; what that means for the session."""
        known = self._attachment
        if self.ended or (known is not None and record.attach_generation < known.attach_generation):
            return None
        self._attachment = record
        before = (known.attach_generation, known.gateway) if known is not None else (0, "")
        if before == (record.attach_generation, record.gateway):
            return None
        if record.gateway:
            return self._event(sessions_pb2.SESSION_EVENT_TYPE_ATTACHED)
        return self._event(sessions_pb2.SESSION_EVENT_TYPE_DETACHED)

    def gone(self) -> Event:
        """There is no `own` any more, and nobody saw its tombstone: the session is over, nobody knows why."""
        self._session = shown(self._session, self._attachment)
        self._session.state, self._session.gateway = _ENDED, ""
        return self._event(sessions_pb2.SESSION_EVENT_TYPE_ENDED)

    def _event(self, kind: sessions_pb2.SessionEventType) -> Event:
        name = sessions_pb2.SessionEventType.Name(kind).removeprefix("SESSION_EVENT_TYPE_")
        return Event(session=shown(self._session, self._attachment), event=name, type=kind)
