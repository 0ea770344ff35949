"""What has to be exact over all processes: counts, and the ephemeral tokens. One small database in the private folder.

Each call is one statement of some ten microseconds, so it is made on the loop; nothing of it outlives the emulator, so
nothing is synchronised with the disk.
"""

import pickle
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emulator import texts
from emulator.session.tokens import Grant, Token, TokensFullError, TokenStore

_BUSY_SECONDS = 10.0
_TABLES = """
CREATE TABLE counts (name TEXT PRIMARY KEY, taken INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (
    name TEXT PRIMARY KEY, expires REAL NOT NULL, key TEXT NOT NULL, uses INTEGER NOT NULL, used INTEGER NOT NULL,
    locked BLOB NOT NULL
) WITHOUT ROWID;
"""


class Shared:
    """One process's way to the database."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        if create:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(_TABLES)
        self._database.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Give it up."""
        self._database.close()

    def take(self, name: str, limit: int) -> bool:
        """Whether the count of that name was below ``limit`` (1 or more); it is one more then."""
        found = self._database.execute(
            "INSERT INTO counts VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET taken = taken + 1 WHERE taken < ?",
            (name, limit),
        )
        return found.rowcount > 0

    def give_back(self, name: str) -> None:
        """One less."""
        self._database.execute("UPDATE counts SET taken = taken - 1 WHERE name = ?", (name,))
        self._database.execute("DELETE FROM counts WHERE name = ? AND taken <= 0", (name,))

    def taken(self, name: str) -> int:
        """The count."""
        found = self._database.execute("SELECT taken FROM counts WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def forget_counts(self, prefix: str, *, kept: Collection[str]) -> None:
        """Drop all counts whose names begin with ``prefix``, except those ``kept``."""
        names = [str(row[0]) for row in self._database.execute("SELECT name FROM counts")]
        gone = [(name,) for name in names if name.startswith(prefix) and name not in kept]
        self._database.executemany("DELETE FROM counts WHERE name = ?", gone)

    @property
    def database(self) -> sqlite3.Connection:
        """For statements of one's own."""
        return self._database

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it at once, or nothing."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


class SharedQuota:
    """:class:`emulator.endpoint.quota.Quota` over all processes."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    @contextmanager
    def connection(self, project: str, limit: int) -> Iterator[bool]:
        """Whether ``project`` may have one more, which it then has until the block ends, in whatever way.

        ``limit`` 0 is none.
        """
        name = f"quota/{project}"
        allowed = not limit or self._shared.take(name, limit)
        try:
            yield allowed
        finally:
            if limit and allowed:
                self._shared.give_back(name)


ORDERS = "order/"
"""What the names of the counts of ordered faults begin with."""


class SharedHits:
    """How many connections an ordered fault may still hit, in whichever process."""

    def __init__(self, order: str, count: int, shared: Shared) -> None:
        self._name = ORDERS + order
        self._count = count
        self._shared = shared

    @property
    def left(self) -> int:
        """So many."""
        return self._count - self._shared.taken(self._name)

    def take(self) -> bool:
        """Whether it may hit one more connection, which it then does."""
        return self._shared.take(self._name, self._count)

    def give_back(self) -> None:
        """It did not hit after all."""
        self._shared.give_back(self._name)


@dataclass
class _SharedToken(Token):
    shared: Shared | None = None

    def use(self, *, resuming: bool) -> None:
        """A session has begun, unless another process was quicker to use it up, which raises."""
        if resuming:
            return
        assert self.shared is not None
        counted = self.shared.database.execute(
            "UPDATE tokens SET used = used + 1 WHERE name = ? AND (uses = 0 OR used < uses)", (self.name,)
        )
        if not counted.rowcount:
            raise texts.TOKEN_USED_UP.refusal()


class SharedTokens(TokenStore):
    """:class:`emulator.session.tokens.TokenStore` over all processes."""

    def __init__(self, *, limit: int, shared: Shared) -> None:
        super().__init__(limit=limit)
        self._shared = shared

    def __len__(self) -> int:
        return int(self._shared.database.execute("SELECT count(*) FROM tokens").fetchone()[0])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def _find(self, name: str) -> Token | None:
        row = self._shared.database.execute("SELECT key, used, locked FROM tokens WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        key, used, locked = row
        # Written by a process of the same emulator, into a folder that is nobody else's.
        grant: Grant = pickle.loads(locked)
        return _SharedToken(name, grant, key, used, self._shared)

    def _keep(self, token: Token, now: float) -> None:
        with self._shared.transaction() as database:
            if len(self) >= self._limit:
                database.execute("DELETE FROM tokens WHERE expires <= ?", (now,))
                if len(self) >= self._limit:
                    raise TokensFullError
            grant = token.grant
            row = (token.name, grant.expires, token.key, grant.uses, 0, pickle.dumps(grant))
            database.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", row)
