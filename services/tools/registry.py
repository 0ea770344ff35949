"""The tools of this process, whatever source they come from, and what could not become one.

Sources come and go, and change what they offer. Of two tools with one name the one whose source was enlisted first is
served, whichever comes up first: otherwise two processes would run different functions for the same call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from services.tools.tool import Tool

log = structlog.get_logger()


@dataclass(frozen=True)
class Offer:
    """What a source has to offer at the moment."""

    tools: Sequence[Tool] = ()
    problems: Sequence[str] = ()
    """One sentence for each thing that is not served, naming it."""
    remarks: Sequence[str] = ()
    """One sentence for each thing that is served, but not quite as its source means it."""


class Registry:
    """Tools by name. Used on the event loop only."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}
        self._down: dict[str, str] = {}
        self._tools: dict[str, Tool] = {}
        self._conflicts: list[str] = []
        self._logged: set[str] = set()
        self.changed = asyncio.Event()
        """Set when tools or their availability changed. Whoever follows clears it."""

    def enlist(self, sources: Iterable[str]) -> None:
        """Names of sources that will offer something, the most important first."""
        for source in sources:
            self._offers.setdefault(source, Offer())

    def offer(self, source: str, offer: Offer) -> None:
        """The source is up, and this is what it has; what it offered before is forgotten."""
        self._offers[source] = offer
        self._down.pop(source, None)
        self._merge()

    def went_down(self, source: str, reason: str) -> None:
        """The source cannot be used. Its tools stay known, and say themselves that they are unavailable."""
        self._down[source] = f"source {source}: {reason}"
        self._merge()

    @property
    def problems(self) -> list[str]:
        """One sentence for each source, module, function or remote tool that is not served, naming it."""
        found = [problem for offer in self._offers.values() for problem in offer.problems]
        return [*self._down.values(), *found, *self._conflicts]

    @property
    def remarks(self) -> list[str]:
        """One sentence for each thing that is served, but not quite as its source means it."""
        return [remark for offer in self._offers.values() for remark in offer.remarks]

    def get(self, name: str) -> Tool | None:
        """One tool; None when there is none of this name."""
        return self._tools.get(name)

    def all(self) -> list[Tool]:
        """Every tool, by name, also those that are unavailable at the moment."""
        return [self._tools[name] for name in sorted(self._tools)]

    def _merge(self) -> None:
        tools: dict[str, Tool] = {}
        self._conflicts = []
        for offer in self._offers.values():
            for tool in offer.tools:
                there = tools.setdefault(tool.name, tool)
                if there is not tool:
                    self._conflicts.append(f"{tool.site}: the name {tool.name!r} is taken by {there.site}")
        self._tools = tools
        self.changed.set()
        self._log()

    def _log(self) -> None:
        # Each once for as long as it lasts: a source that comes and goes must not fill the log.
        problems, remarks = self.problems, self.remarks
        for problem in problems:
            if problem not in self._logged:
                log.error("tool not served", problem=problem)
        for remark in remarks:
            if remark not in self._logged:
                log.warning("tool served with a reservation", remark=remark)
        self._logged = {*problems, *remarks}
