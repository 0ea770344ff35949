"""Everything that is left to chance, from one seed.

Each use draws from a stream of its own, named by the conversation and the use: the same seed and the same client
actions give the same draws, whatever else is switched on and whatever other conversations do.
"""

import random
import secrets


class Chance:
    """The seed and the streams that come of it."""

    def __init__(self, seed: int | None) -> None:
        self.seed = secrets.randbits(32) if seed is None else seed
        """Given, or drawn; with it a run can be repeated."""

    def stream(self, *names: object) -> random.Random:
        """A stream of its own for ``names``. Not for secrets."""
        return random.Random("/".join(map(str, (self.seed, *names))))
