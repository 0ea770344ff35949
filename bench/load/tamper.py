"""A fault of one frame between receiving and recording, for the bench to prove that it would see it. Plain code."""

from typing import Final, Literal, get_args

Kind = Literal["drop", "double", "swap"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Tamper:
    """Passes everything on but one frame: that is dropped, doubled, or swapped with the one after it."""

    def __init__(self, kind: Kind, at: int = 10) -> None:
        """`at`: which frame, from 1."""
        self._kind = kind
        self._at = at
        self._seen = 0
        self._held: bytes | None = None

    def pass_on(self, frame: bytes) -> list[bytes]:
        """What is recorded now that `frame` was received."""
        self._seen += 1
        if self._seen == self._at:
            match self._kind:
                case "drop":
                    return []
                case "double":
                    return [frame, frame]
                case "swap":
                    self._held = frame
                    return []
        if self._held is not None:
            held, self._held = self._held, None
            return [frame, held]
        return [frame]
