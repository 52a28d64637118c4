"""The store of this installation, and no other: an id lies in it and in Postgres.

A wrong STORE_URL, a bucket that was swapped, a database restored beside another store: octets would
be looked for where they never were, written where nobody looks for them, and deleted because no
row of this database points to them. So nothing is read, written or deleted before both ids were
seen to be the same.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import IO, Final

import structlog

from shared.errors import OwnFailure, TryAgain
from shared.messages import RawRef
from shared.settings import StoreSettings
from shared.storage import store_identity
from shared.storage.pool import Database
from shared.store import Pack, Store
from shared.store.open import open_store

_log = structlog.get_logger(__name__)

#: Seconds for which a store that was recognised is taken for the same.
_TRUSTED_SECONDS: Final = 30.0
_ADOPT: Final = (
    "Is POSTHOUSE_STORE_URL right? Where the store was moved or restored on purpose, run "
    "`posthouse migrate --adopt-store` once with the same settings."
)


class ForeignStore(OwnFailure):
    """The store is another installation's, or an empty one in place of ours."""

    code = "foreign-store"


class OwnStore:
    """A `Store` that refuses with ForeignStore what is not this installation's. Thread-safe."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._lock = threading.Lock()
        self._verified_at = float("-inf")
        self._foreign: ForeignStore | None = None

    def verify(self, *, anew: bool = False) -> None:
        """Raises ForeignStore; asks once in half a minute unless `anew`.

        An empty store becomes ours where no mail is known yet.
        """
        with self._lock:
            if not anew and time.monotonic() - self._verified_at < _TRUSTED_SECONDS:
                return
            self._verified_at = float("-inf")
            try:
                self._compare()
            except ForeignStore as error:
                self._foreign = error
                raise
            self._foreign = None
            self._verified_at = time.monotonic()

    def _compare(self) -> None:
        # The marker before the row, which whoever marks the store commits first: services that
        # start together on an empty store never take each other's marker for a stranger's.
        found = self._store.marker()
        with self._database.transaction() as session:
            expected = store_identity.current(session)
            has_mails = store_identity.has_mails(session)
        if found is None:
            if not has_mails and self._store.is_empty():
                self._make_ours()
                return
            found = self._store.marker()  # another service may have marked and used it meanwhile
            if found is None:
                raise _unmarked(has_mails)
            with self._database.transaction() as session:
                expected = store_identity.current(session)
        if found != expected:
            raise ForeignStore(
                "The store belongs to another installation of Posthouse: nothing is read from it, "
                "written to it or deleted in it.",
                hint=_ADOPT,
            )

    def _make_ours(self) -> None:
        # The row first: a store that was marked by a process that died would be nobody's.
        with self._database.transaction() as session:
            identity = store_identity.remember(session, uuid.uuid4())
        self._store.mark(identity)
        _log.info("empty store initialised", store=str(identity))

    def pack(self) -> Pack:
        self.verify()
        return self._store.pack()

    def keep(self, file: IO[bytes], key: str) -> None:
        self._store.keep(file, key)

    def read(self, ref: RawRef) -> bytes:
        self.verify()
        return self._store.read(ref)

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        self.verify()
        return self._store.stream(ref)

    def delete(self, key: str) -> None:
        self.verify()
        self._store.delete(key)

    def delete_all(self, keys: Sequence[str]) -> None:
        self.verify()
        self._store.delete_all(keys)

    def days(self, before: str) -> list[str]:
        self.verify(anew=True)
        return self._store.days(before)

    def keys_of(self, day: str) -> Iterator[list[str]]:
        self.verify()
        return self._store.keys_of(day)

    def sweep(self, before: datetime) -> int:
        self.verify()
        return self._store.sweep(before)

    def check(self) -> None:
        self.verify(anew=True)
        self._store.check()

    def refuse_foreign(self) -> None:
        """Raises ForeignStore where the last look said so; looks at nothing."""
        if self._foreign is not None:
            raise ForeignStore(str(self._foreign), hint=self._foreign.hint)

    def check_identity(self) -> None:
        """Raises ForeignStore only: for who can do without the store while it is away or full."""
        try:
            self.verify(anew=True)
        except ForeignStore:
            raise
        except TryAgain as error:
            _log.warning("store not reached", error=str(error))

    def marker(self) -> uuid.UUID | None:
        return self._store.marker()

    def mark(self, identity: uuid.UUID) -> None:
        self._store.mark(identity)

    def is_empty(self) -> bool:
        return self._store.is_empty()

    def space(self) -> tuple[int, int] | None:
        return self._store.space()


def _unmarked(has_mails: bool) -> ForeignStore:
    if has_mails:
        return ForeignStore(
            "The store is not the one that holds the mails which the database knows: "
            "it does not say whose it is.",
            hint=_ADOPT,
        )
    return ForeignStore("The store holds mails of which the database knows nothing.", hint=_ADOPT)


def open_own_store(settings: StoreSettings, database: Database) -> OwnStore:
    """See `open_store`; nothing is read or written before the first use."""
    return OwnStore(database, open_store(settings))


def adopt_store(database: Database, store: Store) -> uuid.UUID:
    """Makes this store the installation's: an administrator says that it is. Gives its id."""
    found = store.marker()
    with database.transaction() as session:
        identity = found or store_identity.current(session) or uuid.uuid4()
        store_identity.replace(session, identity)
    if found is None:
        store.mark(identity)
    return identity
