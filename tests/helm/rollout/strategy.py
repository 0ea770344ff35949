"""What a Deployment does next, and whom a disruption budget lets go. Plain code, after Kubernetes' own controllers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod that has not been told to go, as controllers see it."""

    name: str
    current: bool
    """Of the newest template."""
    ready: bool
    available: bool
    """Ready for `minReadySeconds`."""
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """Pods to start, and names of those to delete."""

    start: int = 0
    delete: tuple[str, ...] = ()


def rolling_update(pods: Sequence[PodView], *, replicas: int, surge: int, unavailable: int) -> Step:
    """One round. Pods that are on their way out are in no count, as in Kubernetes."""
    new = [pod for pod in pods if pod.current]
    old = [pod for pod in pods if not pod.current]
    if len(new) > replicas:
        return Step(delete=tuple(pod.name for pod in _first_to_go(new)[: len(new) - replicas]))
    start = max(0, min(replicas - len(new), replicas + surge - len(pods)))
    if not old:
        return Step(start)
    least = replicas - unavailable
    delete: list[str] = []
    # Old pods that do not work are no loss, as far as new ones that do not work yet leave room.
    most = len(pods) - least - sum(not pod.available for pod in new)
    delete += [pod.name for pod in old if not pod.available][: max(0, most)]
    left = [pod for pod in old if pod.name not in delete]
    spare = sum(pod.available for pod in new) + sum(pod.available for pod in left) - least
    delete += [pod.name for pod in _first_to_go([pod for pod in left if pod.available])[: max(0, spare)]]
    return Step(start, tuple(delete))


def _first_to_go(pods: Sequence[PodView]) -> list[PodView]:
    """Not ready before ready, young before old."""
    return sorted(pods, key=lambda pod: (pod.ready, pod.age))


def may_evict(pods: Sequence[PodView], name: str, *, replicas: int, max_unavailable: int, always_unready: bool) -> bool:
    """Whether the budget lets this one go now. `pods`: those of the budget that are not on their way out."""
    pod = next(pod for pod in pods if pod.name == name)
    if not pod.ready and always_unready:
        return True
    healthy = sum(one.ready for one in pods)
    return healthy - (replicas - max_unavailable) >= 1
