"""The one way to Postgres: a pool of connections, and errors translated at the border."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import conninfo
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from shared.errors import InvalidInput, OwnFailure

T = TypeVar("T")

#: A connection whose rows are plain tuples; each aggregate turns them into values.
Session = psycopg.Connection[tuple[Any, ...]]


#: How soon a Postgres that is gone without a word is noticed (libpq's parameters, in seconds, the
#: last in milliseconds): its machine died, or something between forgot the connection. By the
#: system's defaults a thread waits a quarter of an hour, or two hours. The address goes before.
_LIVENESS: Final = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

#: By which Postgres ends a session that waits too long between two statements. psycopg counts them
#: as wrong use of a transaction.
_ENDED_BY_POSTGRES: Final = (pg.IdleInTransactionSessionTimeout, pg.TransactionTimeout)

#: Seconds between two times that all sessions are replaced as one of them only reads: while
#: Postgres takes no changes at all, fresh ones do not help.
_REPLACED_EVERY_S: Final = 5.0

#: What is done once the transaction that is open on a session is committed.
_AFTER_COMMIT: WeakKeyDictionary[Session, list[Callable[[], object]]] = WeakKeyDictionary()


def after_commit(session: Session, act: Callable[[], object]) -> None:
    """Does `act` once the transaction is committed (counts something, say), never without."""
    acts = _AFTER_COMMIT.get(session)
    if acts is not None:
        acts.append(act)


class DatabaseUnavailable(OwnFailure):
    """Postgres does not answer, or closed the connection under us."""

    code = "database-unavailable"


class DatabaseCannotWrite(DatabaseUnavailable):
    """Postgres answers and takes no changes: its disk is full, or it only reads."""

    code = "database-cannot-write"


class Contended(OwnFailure):
    """Two transactions stood in each other's way; nothing was changed, at once again is fine."""

    code = "database-contended"


def wait_briefly(session: Session) -> None:
    """Until the transaction ends no row that is locked is waited for longer (`Contended`): what is
    done for several keeps them all waiting."""
    session.execute("SET LOCAL lock_timeout = '500ms'")


def read_address(address: str) -> dict[str, str]:
    """The parts of an address of Postgres, in any form that libpq takes: a URI or key=value, one
    host or several, IPv6, a socket. Raises InvalidInput."""
    try:
        return {name: str(value) for name, value in conninfo_to_dict(address).items()}
    except psycopg.ProgrammingError as error:
        raise InvalidInput(
            f"The address of Postgres cannot be read: {str(error).strip()}.",
            field="database_url",
            hint="postgresql://user:password@host/name, or host=… dbname=… as libpq takes it.",
        ) from error


class Database:
    """A lazily opened pool. Open it after a fork, never before; thread-safe."""

    def __init__(
        self, url: str, *, size: int = 10, timeout: float = 15.0, prepared: bool = True
    ) -> None:
        """`url` as `read_address` takes it; raises InvalidInput where it cannot be read.

        Not `prepared`: for a pooler that gives each transaction another connection and does not
        know what was prepared on the one before."""
        said = read_address(url)
        self._pool = ConnectionPool(
            url,
            min_size=1,
            max_size=size,
            timeout=timeout,
            open=False,
            check=_check,
            kwargs={
                "application_name": "posthouse",
                "connect_timeout": 10,
                **{name: value for name, value in _LIVENESS.items() if name not in said},
                "prepare_threshold": 2 if prepared else None,
            },
            name="posthouse",
        )
        where = conninfo.conninfo_to_dict(url)
        #: Host and port, without secrets.
        self.place = f"Postgres at {where.get('host', 'localhost')}:{where.get('port', 5432)}"
        #: Why Postgres took no changes the last time; whoever writes regularly sets it back.
        self.refusal: DatabaseCannotWrite | None = None
        self._replaced_at = -_REPLACED_EVERY_S
        self._mutex = threading.Lock()

    def open(self) -> None:
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Database:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back on any exception.

        Raises DatabaseUnavailable where Postgres does not answer. When that happens at the commit,
        the outcome is unknown: callers must be safe to repeat.
        """
        with self._translated(), self._pool.connection() as session:
            acts = _AFTER_COMMIT[session] = []
            try:
                yield session
            finally:
                del _AFTER_COMMIT[session]
        for act in acts:
            act()

    @contextmanager
    def autocommit(self) -> Iterator[Session]:
        """Each statement is a transaction of its own: one round trip, where `transaction` needs
        two more. For reads, which see no less than in a transaction (READ COMMITTED), and for
        changes that are one statement. Raises as `transaction` does.
        """
        with self._translated(), self._pool.connection() as session:
            session.autocommit = True
            try:
                yield session
            finally:
                with contextlib.suppress(psycopg.Error):  # it broke, and is thrown away
                    session.autocommit = False

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise DatabaseUnavailable("Postgres does not answer.") from error
        except (pg.DeadlockDetected, pg.SerializationFailure, pg.LockNotAvailable) as error:
            raise Contended(f"Postgres asks to repeat: {error}") from error
        except pg.CheckViolation as error:
            if error.diag.constraint_name is not None:
                raise
            # A partition of the ledger was attached between routing a row and writing it.
            raise Contended("The ledger got a new partition at this moment.") from error
        except (pg.DiskFull, pg.ReadOnlySqlTransaction) as error:
            self.refusal = _refused(error)
            if isinstance(error, pg.ReadOnlySqlTransaction):
                self._replace_sessions()
            raise self.refusal from error
        except (pg.OperationalError, pg.InterfaceError, *_ENDED_BY_POSTGRES) as error:
            raise DatabaseUnavailable(f"Postgres broke off: {error}") from error

    def _replace_sessions(self) -> None:
        """Opens all sessions anew: where the address leads may take changes by now.

        After a failover a session can outlive the change and stay with a server that is a standby
        by then; one that was opened while changes were switched off keeps that as its default.
        """
        with self._mutex:
            now = time.monotonic()
            if now - self._replaced_at < _REPLACED_EVERY_S:
                return
            self._replaced_at = now
        self._pool.drain()

    def perform(self, work: Callable[[Session], T], *, single: bool = False) -> T:
        """`work` in a transaction, up to three times where another one stands in its way. A
        `single` statement is one by itself: one round trip, not three."""
        begin = self.autocommit if single else self.transaction
        for _ in range(2):
            with contextlib.suppress(Contended), begin() as session:
                return work(session)
        with begin() as session:
            return work(session)

    def check(self) -> None:
        """Raises DatabaseUnavailable where a trivial query fails."""
        with self.transaction() as session:
            session.execute("SELECT 1")


def _check(session: Session) -> None:
    """A connection that Postgres dropped (restart, failover) is replaced before use.

    An idle one has something to read then: Postgres says nothing unasked but that it ends. Asking
    costs a round trip each time, as much as most statements.
    """
    ready = select.poll()
    ready.register(session.fileno(), select.POLLIN)
    if ready.poll(0):
        ConnectionPool.check_connection(session)


#: Beginning a session of a person is a change, too.
_LOOK: Final = (
    "Who is logged in or comes with the bootstrap token, and `posthouse overview`, see meanwhile "
    "how things are."
)


def _refused(error: pg.DiskFull | pg.ReadOnlySqlTransaction) -> DatabaseCannotWrite:
    if isinstance(error, pg.DiskFull):
        return DatabaseCannotWrite(
            "Postgres has no space left and takes no changes.",
            hint="Make room on its disk. No mail is fetched until then, and none is lost. " + _LOOK,
        )
    return only_reads()


def only_reads() -> DatabaseCannotWrite:
    """The reason where Postgres only reads."""
    return DatabaseCannotWrite(
        "Postgres only reads and takes no changes.",
        hint="DATABASE_URL leads to a standby, or default_transaction_read_only is on. No mail is "
        "fetched until it can be written, and none is lost. " + _LOOK,
    )
