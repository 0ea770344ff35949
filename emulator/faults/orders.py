"""Faults that are ordered while the emulator runs, the connections they may reach, and what has fired."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from emulator.faults.plan import FaultPlan
from emulator.faults.specs import AnyFault

Reach = Literal["open", "future", "all"]

_MAX_ORDERS = 1000
_MAX_FIRED = 1000
_MAX_NAMES = 10_000


class TooManyOrdersError(Exception):
    """No more are taken before some have fired or are cancelled."""


class Hits(Protocol):
    """How many connections an order may still hit."""

    @property
    def left(self) -> int:
        """So many."""

    def take(self) -> bool:
        """Whether it may hit one more connection, which it then does."""

    def give_back(self) -> None:
        """It did not hit after all."""


@dataclass
class CountedHits:
    """Of this process."""

    left: int

    def take(self) -> bool:
        """Whether it may hit one more connection, which it then does."""
        if self.left == 0:
            return False
        self.left -= 1
        return True

    def give_back(self) -> None:
        """It did not hit after all."""
        self.left += 1


@dataclass(eq=False)
class Order:
    """One fault, for the connections that fit."""

    id: str
    fault: AnyFault
    conversation: str | None
    """None: of any conversation."""
    scenario: str | None
    """None: of any scenario."""
    reach: Reach
    """Connections that are open when it is given, those to come, or both."""
    hits: Hits | None
    """None: any number of connections."""
    plans: set[FaultPlan] = field(default_factory=set)
    """The open connections that know of it."""

    def take(self) -> bool:
        """Whether it may hit one more connection, which it then does."""
        return self.hits is None or self.hits.take()

    def give_back(self) -> None:
        """It did not hit after all."""
        if self.hits is not None:
            self.hits.give_back()

    @property
    def left(self) -> int | None:
        """How many connections it may still hit; None: any number."""
        return None if self.hits is None else self.hits.left

    def fits(self, plan: FaultPlan) -> bool:
        """Whether it is meant for a connection."""
        right = self.conversation in (None, plan.conversation) and self.scenario in (None, plan.scenario)
        return right and plan not in self.plans

    def view(self) -> dict[str, Any]:
        """As JSON."""
        whom = {"conversation": self.conversation, "scenario": self.scenario, "reach": self.reach, "left": self.left}
        return {"id": self.id, "fault": self.fault.told(), **whom, "open_connections": len(self.plans)}


class Orders:
    """All orders that are not used up, and the plans of all connections."""

    def __init__(
        self,
        draw: Callable[..., random.Random],
        hits: Callable[[str, int], Hits] = lambda _order, count: CountedHits(count),
    ) -> None:
        self._draw = draw
        self._hits = hits
        self._orders: dict[str, Order] = {}
        self._next = 1
        self._plans: set[FaultPlan] = set()
        self._dials: OrderedDict[str, int] = OrderedDict()
        self._fired: deque[dict[str, Any]] = deque(maxlen=_MAX_FIRED)
        self.count = 0
        """Faults that have fired."""

    def dialled(
        self, conversation: str, scenario: str, declared: Iterable[AnyFault], *, number: int | None = None
    ) -> FaultPlan:
        """The plan of a new connection; ``number``: that of its dial where it has been counted elsewhere."""
        number = self._dials.pop(conversation, 0) + 1 if number is None else number
        self._dials[conversation] = number
        if len(self._dials) > _MAX_NAMES:
            self._dials.popitem(last=False)
        plan = FaultPlan(conversation, scenario, number, draw=self._draw, tell=self._note, moved=self._offer)
        for fault in declared:
            plan.arm(fault)
        self._plans.add(plan)
        self._offer(plan)
        return plan

    def gone(self, plan: FaultPlan) -> None:
        """A connection has ended."""
        self._plans.discard(plan)
        for order in list(self._orders.values()):
            order.plans.discard(plan)
        self._tidy()

    def withdraw(self, plan: FaultPlan) -> None:
        """A connection goes on in another process, where all of its faults are met again."""
        for told in plan.withdraw():
            self.count -= 1
            if told in self._fired:
                self._fired.remove(told)
        self.gone(plan)

    def number_from(self, number: int) -> None:
        """The next order has that number, or a higher one that is next anyway."""
        self._next = max(self._next, number)

    def place(
        self,
        fault: AnyFault,
        *,
        conversation: str | None = None,
        scenario: str | None = None,
        reach: Reach = "all",
        count: int | None = None,
    ) -> Order:
        """A new order, known to the connections concerned from now on. Raises :class:`TooManyOrdersError`."""
        if len(self._orders) >= _MAX_ORDERS:
            raise TooManyOrdersError(f"{_MAX_ORDERS} faults are pending; cancel some with DELETE /faults")
        name = f"fault_{self._next}"
        self._next += 1
        hits = None if count is None else self._hits(name, count)
        order = Order(name, fault, conversation, scenario, reach, hits)
        self._orders[order.id] = order
        if reach != "future":
            for plan in list(self._plans):
                self._give(order, plan)
        self._tidy()
        return order

    def cancel(self, order_id: str) -> bool:
        """It fires no more, and what of it lasts is over. Whether there was one."""
        order = self._orders.pop(order_id, None)
        if order is None:
            return False
        for plan in order.plans:
            plan.disarm(order)
        return True

    def cancel_all(self, conversation: str | None = None) -> int:
        """All of them, or those for one conversation; how many there were."""
        meant = [one.id for one in self._orders.values() if conversation in (None, one.conversation)]
        return sum(self.cancel(order_id) for order_id in meant)

    def pending(self, conversation: str | None = None) -> list[dict[str, Any]]:
        """Orders that may still fire or whose effect lasts."""
        return [one.view() for one in self._orders.values() if conversation in (None, one.conversation)]

    def fired(self, conversation: str | None = None) -> list[dict[str, Any]]:
        """The latest that fired, the oldest first, however they were told."""
        return [one for one in self._fired if conversation in (None, one["conversation"])]

    def _offer(self, plan: FaultPlan) -> None:
        for order in self._orders.values():
            if order.reach != "open":
                self._give(order, plan)

    def _give(self, order: Order, plan: FaultPlan) -> None:
        if order.left != 0 and order.fits(plan):
            order.plans.add(plan)
            plan.arm(order.fault, order)

    def _note(self, fired: dict[str, Any]) -> None:
        self.count += 1
        self._fired.append(fired)

    def _tidy(self) -> None:
        """Forget what can do nothing any more."""
        for order in list(self._orders.values()):
            if not order.plans and (order.left == 0 or order.reach == "open"):
                del self._orders[order.id]
