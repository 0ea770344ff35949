"""What a session knows of its function calls, whatever becomes of its connections."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field


def _random_id() -> str:
    return f"call_{secrets.token_hex(8)}"


@dataclass
class Ledger:
    """One session's."""

    new_id: Callable[[], str] = _random_id
    """Ids that are never used twice."""
    unanswered: dict[str, str] = field(default_factory=dict)
    """Id and name of each call that was made and neither answered nor cancelled."""
