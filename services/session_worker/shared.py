"""What the sessions of one worker share."""

from __future__ import annotations

from dataclasses import dataclass

from services.fabric.bus import Bus, Writer
from services.fabric.catalog import Catalog
from services.fabric.records import SessionRecords
from services.fabric.timeline import Timeline
from services.session_worker.leftovers import Leftovers
from services.session_worker.lifeline import Lifeline
from services.session_worker.link import Dialer
from services.session_worker.settings import WorkerSettings


@dataclass(frozen=True)
class Services:
    """Connections, records and settings of the process."""

    worker: str
    bus: Bus
    writer: Writer
    records: SessionRecords
    catalog: Catalog
    dialer: Dialer
    leftovers: Leftovers
    lifeline: Lifeline
    settings: WorkerSettings
    timeline: Timeline
