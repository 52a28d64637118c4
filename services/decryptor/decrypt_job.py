"""The decrypt job: mails of the outbox are opened, and one event each goes to every handler.

Order: claim, open, keep what was opened in the store, record it, publish, record the deliveries.
A crash anywhere leaves the rows in the outbox; the scheduler sends them again, and a mail that was
published just before goes out a second time with the same event id.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from structlog.contextvars import bound_contextvars

from services.decryptor.known_connections import KnownConnections
from services.decryptor.opening import is_searched, may_be_secured
from services.decryptor.opening_batches import SecuredMails
from services.decryptor.publishing import Publisher, ReadyMail
from services.decryptor.settings import DecryptorSettings
from shared.coalescing import Combiner
from shared.connections import Connection
from shared.errors import PosthouseError, SecretKeyMissing, TryAgain
from shared.mail.facts import FACT_FIELDS
from shared.mail.fields import HEADER_LIMIT
from shared.mail.region import region
from shared.mail.structure import Entity, entity
from shared.mail_security import PLAIN
from shared.messages import DecryptOutcome, RawRef
from shared.quantities import counted
from shared.storage import outbox
from shared.storage.outbox import Release
from shared.storage.outbox_claims import Claimed
from shared.storage.pool import Database, DatabaseUnavailable, Session
from shared.store import MissingObject, Store
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

STEPS: Final = ("claimed", "opened", "kept", "recorded", "published", "delivered")

#: Octets of mails that are worked on together, and of one that is worked on alone.
_BATCH_OCTETS = 8 << 20
_LARGE = 1 << 20
#: Octets of a mail that is read whole into memory, once for everything that is asked of it.
_READ_WHOLE: Final = 16 << 20
#: Octets of an encrypted or signed mail that is opened in memory, not by way of a file.
_OPENED_IN_MEMORY: Final = 1 << 18
#: Mails of several jobs that are worked on together, at most.
_TOGETHER: Final = 200
#: Attempts of a mail beside others (`outbox.due` sends it alone after as many).
_TOGETHER_AT_MOST: Final = 2
#: Jobs in hand for each thread that works: what is taken while it is busy goes together.
JOBS_A_THREAD: Final = 4
#: Seconds. A mail whose octets are missing is tried again at least so often, and for so long.
_MISSING_LONGEST = 600.0
_MISSING_GIVEN_UP = 86_400.0


@dataclass(slots=True)
class Claims:
    """What this process holds, so that it can be prolonged while a large mail is opened."""

    database: Database
    ttl: float
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[uuid.UUID, list[uuid.UUID]] = field(default_factory=dict)

    @contextmanager
    def holding(self, token: uuid.UUID, ids: Sequence[uuid.UUID]) -> Iterator[None]:
        with self._lock:
            self._held[token] = list(ids)
        try:
            yield
        finally:
            with self._lock:
                del self._held[token]

    def run(self, stop: threading.Event) -> None:
        """Renews every third of the time to live, until `stop` is set after the last batch."""
        while not stop.wait(self.ttl / 3):
            with self._lock:
                held = dict(self._held)
            if not held:
                continue
            try:
                with self.database.transaction() as session:
                    outbox.renew(
                        session, list(held), [i for ids in held.values() for i in ids], self.ttl
                    )
            except DatabaseUnavailable as error:
                _log.warning("claims not renewed", error=str(error))
            except Exception:  # without this thread every large mail would be taken over
                _log.exception("claims not renewed")


@dataclass(slots=True)
class MissingBytes:
    """Whether the store lacked octets lately: a decryptor that cannot read mails is not ready."""

    _noted_at: float = float("-inf")

    def note(self) -> None:
        self._noted_at = time.monotonic()

    def check(self) -> None:
        """Raises TryAgain until nothing was missing for longer than mails are put off."""
        if time.monotonic() - self._noted_at < 1.5 * _MISSING_LONGEST:
            raise TryAgain(
                "The store lacks mails that were written to it.",
                hint="Is POSTHOUSE_STORE_URL right? They are tried again until they are there.",
            )


@dataclass(frozen=True, slots=True)
class Decrypting:
    """What every decrypt job of this process works with. `reached` is told every step."""

    database: Database
    store: Store
    secured: SecuredMails
    publisher: Publisher
    settings: DecryptorSettings
    claims: Claims
    reached: Callable[[str], None]
    missing: MissingBytes = field(default_factory=MissingBytes)
    connections: KnownConnections = field(default_factory=KnownConnections)
    _together: Combiner[Sequence[uuid.UUID], None] = field(init=False)

    def __post_init__(self) -> None:
        combiner = Combiner(
            self._run,
            final=(DatabaseUnavailable,),
            largest=_TOGETHER,
            size=len,
            leaders=self.settings.decrypt_threads,
        )
        object.__setattr__(self, "_together", combiner)

    def run(self, message_ids: Sequence[str], correlation_id: str) -> None:
        """Opens and publishes those of the mails that wait and that nobody else holds.

        With those of other jobs that came while all threads were busy (`JOBS_A_THREAD`).
        """
        with bound_contextvars(correlation_id=correlation_id):
            self._together([uuid.UUID(item) for item in message_ids])

    def _run(self, jobs: Sequence[Sequence[uuid.UUID]]) -> Sequence[None]:
        """Several jobs as if they were one."""
        self._work_on([identifier for job in jobs for identifier in job])
        return [None] * len(jobs)

    def _work_on(self, ids: Sequence[uuid.UUID]) -> None:
        if not ids:
            return
        token = uuid.uuid4()
        claiming = traces.span("claim", asked=len(ids))
        # One alone is claimed by one statement: a transaction would be two round trips more.
        begin = self.database.autocommit if len(ids) == 1 else self.database.transaction
        with claiming as span, begin() as session:
            claimed = outbox.claim(session, ids, token, self.settings.claim_seconds)
            suspects = _suspects(claimed)
            later = self.settings.claim_seconds
            alone = [Release(m.id, "", later, missing=m.missing_s is not None) for m in suspects]
            outbox.release(session, token, alone)  # as if they had not been claimed
            span.set_attribute("posthouse.mails", len(claimed))
            by_id = self.connections.of(session, claimed)
        self.reached("claimed")
        claimed = [mail for mail in claimed if mail not in suspects]
        with self.claims.holding(token, [mail.id for mail in claimed]):
            for part in _parts(claimed):
                self._part(part, by_id, token)
        for mail in suspects:
            self._work_on([mail.id])

    def _part(
        self, part: Sequence[Claimed], by_id: dict[int, Connection], token: uuid.UUID
    ) -> None:
        try:
            healthy = [mail for mail in part if mail.attempts <= self.settings.decrypt_attempts]
            for mail in part:
                if mail.attempts > self.settings.decrypt_attempts:
                    self._quarantine(mail, token)
            ours = sorted({mail.connection_id for mail in healthy})
            octets = sum(mail.raw.size for mail in healthy)
            with traces.span("decrypt", mails=len(healthy), octets=octets, connections=ours):
                outcomes = self._opened(healthy, by_id, token)
            ready = [mail for mail in healthy if mail.id in outcomes]
            with traces.span("publish", kind=SpanKind.PRODUCER, mails=len(ready), connections=ours):
                self.publisher.publish(ready, outcomes, by_id, token, self.reached)
        except MissingObject as error:
            # Nothing of the part was published yet: everything is read before. Others go on.
            if len(part) > 1:
                for mail in part:
                    self._part([mail], by_id, token)
            else:
                self._missing(part, token, error)
        except SecretKeyMissing as error:
            # Those of other connections go on; these are left to decryptors that have the key.
            if len(part) > 1:
                for mail in part:
                    self._part([mail], by_id, token)
            else:
                _log.warning("mails left to decryptors that have the key", error=str(error))
                self._release(part, token, str(error), blameless=True)
        except (PosthouseError, OSError) as error:
            # Ours to blame (store, database, output, the disk of the spools): the mails wait, and
            # nothing counts against them.
            _log.warning("batch put off", mails=len(part), error=str(error))
            self._release(part, token, str(error), blameless=True)
        except Exception as error:
            # Nobody foresaw it, so one of the mails may be the cause: it counts against them.
            _log.exception("batch failed unexpectedly", mails=len(part))
            self._release(part, token, f"{type(error).__name__}: {error}", blameless=False)

    def _release(
        self, part: Sequence[Claimed], token: uuid.UUID, reason: str, *, blameless: bool
    ) -> None:
        releases = [
            Release(
                mail.id,
                reason[:1000],
                delay=min(300.0, 5.0 * 2 ** min(mail.attempts, 6)),
                blameless=blameless,
            )
            for mail in part
        ]
        try:
            with self.database.transaction() as session:
                outbox.release(session, token, releases)
        except DatabaseUnavailable as error:
            _log.warning("claims not given back", error=str(error))

    def _missing(self, mails: Sequence[Claimed], token: uuid.UUID, error: MissingObject) -> None:
        """The store lacks octets that are in the ledger: its fault, not the mails'.

        They are tried again, ever more rarely; only after a day somebody has to decide.
        """
        _log.error("mails missing in the store", key=mails[0].raw.key, mails=len(mails))
        metrics.STORE_MISSES.inc(len(mails))
        self.missing.note()
        releases = [
            Release(
                mail.id,
                str(error),
                delay=min(_MISSING_LONGEST, max(5.0, mail.missing_s or 0.0)),
                missing=True,
            )
            for mail in mails
            if (mail.missing_s or 0.0) < _MISSING_GIVEN_UP
        ]
        with self.database.transaction() as session:
            outbox.release(session, token, releases)
            for mail in mails:
                if (mail.missing_s or 0.0) >= _MISSING_GIVEN_UP:
                    reason = f"Its octets were not in the store for a day. {error}"
                    outbox.move_to_quarantine(session, token, mail.id, "bytes-missing", reason)

    def _quarantine(self, mail: Claimed, token: uuid.UUID) -> None:
        attempts = counted(self.settings.decrypt_attempts, "attempt")
        reason = (
            f"The mail could not be processed in {attempts}; "
            "each ended in a crash or an unexpected error."
        )
        _log.error("mail quarantined", message_id=str(mail.id))
        with self.database.transaction() as session:
            outbox.move_to_quarantine(session, token, mail.id, "cannot-process", reason)

    def _opened(
        self, part: Sequence[Claimed], by_id: dict[int, Connection], token: uuid.UUID
    ) -> dict[uuid.UUID, ReadyMail]:
        """What each mail is, and the form that handlers read where it is small.

        What took work to find out is recorded at once; that a mail is plain is recorded with its
        publication, which spares a row version.
        """
        results: dict[uuid.UUID, ReadyMail] = {}
        fresh: list[DecryptOutcome] = []
        small: dict[int, list[tuple[Claimed, bytes]]] = {}
        plain = 0
        with self.store.pack() as pack:
            for mail, head in self._heads(part, token):
                if mail.outcome is not None:
                    results[mail.id] = ReadyMail(mail.outcome)
                    continue
                read = entity(region(head), names=FACT_FIELDS)
                if not self._is_secured(mail, read, head):
                    outcome = DecryptOutcome(id=mail.id, security=PLAIN)
                    whole = len(head) == mail.size
                    results[mail.id] = (
                        ReadyMail(outcome, head, read) if whole else ReadyMail(outcome)
                    )
                    plain += 1
                elif mail.size <= max(self.settings.inline_max_bytes, _OPENED_IN_MEMORY):
                    small.setdefault(mail.connection_id, []).append((mail, head))
                else:
                    connection = by_id.get(mail.connection_id)
                    outcome = self.secured.open_large(mail, connection, pack, self.reached)
                    fresh.append(outcome)
                    results[mail.id] = ReadyMail(outcome)
            for connection_id, mails in small.items():
                for outcome, content in self.secured.open_small(
                    mails, by_id.get(connection_id), pack
                ):
                    fresh.append(outcome)
                    results[outcome.id] = ReadyMail(outcome, content)
            metrics.DECRYPTED_MESSAGES.labels("none").inc(plain)
            self.reached("opened")
            if pack.size:
                pack.commit()
            self.reached("kept")
        if fresh:
            self.database.perform(lambda session: _record(session, fresh, token))
        self.reached("recorded")
        return results

    def _is_secured(self, mail: Claimed, read: Entity, head: bytes) -> bool:
        """Whether the mail must be opened. A very large one is searched where parts may tell."""
        if may_be_secured(read, head):
            return True
        return len(head) < mail.size and is_searched(read) and self.secured.search(mail, read)

    def _heads(self, part: Sequence[Claimed], token: uuid.UUID) -> Iterator[tuple[Claimed, bytes]]:
        """Each mail with its first octets: all of them unless it is very large.

        Neighbours in the store are read in one go. A mail whose octets are gone is given back.
        """
        for run in _neighbours(part):
            first, last = run[0].raw, run[-1].raw
            octets = last.offset + _head_size(run[-1]) - first.offset
            try:
                block = self.store.read(RawRef(first.key, first.offset, octets))
            except MissingObject as error:
                if len(run) == 1:
                    self._missing(run, token, error)
                for mail in run if len(run) > 1 else ():  # of a shortened object some are there
                    yield from self._heads([mail], token)
                continue
            for mail in run:
                start = mail.raw.offset - first.offset
                yield mail, block[start : start + mail.raw.size]


def _head_size(mail: Claimed) -> int:
    """Octets of a mail that are read at once: of a very large one enough for its header."""
    return mail.raw.size if mail.raw.size <= _READ_WHOLE else HEADER_LIMIT


def _suspects(claimed: Sequence[Claimed]) -> list[Claimed]:
    """Mails that ended in a crash or an error twice, where there are others beside them.

    Whoever is worked on with such a mail shares its fate, and its attempts: jobs of one mail each
    come together again where threads are busy (`JOBS_A_THREAD`).
    """
    return [m for m in claimed if len(claimed) > 1 and m.attempts > _TOGETHER_AT_MOST]


def _parts(claimed: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    """Mails in the order of the store, a few megabytes at a time; then the large ones, each alone:
    mails of others do not wait for them."""
    part: list[Claimed] = []
    octets = 0
    small = [mail for mail in claimed if mail.size <= _LARGE]
    for mail in small:
        part.append(mail)
        octets += mail.size
        if octets >= _BATCH_OCTETS:
            yield part
            part, octets = [], 0
    if part:
        yield part
    yield from ([mail] for mail in claimed if mail.size > _LARGE)


def _record(session: Session, outcomes: Sequence[DecryptOutcome], token: uuid.UUID) -> None:
    """For mails that are still ours: another one may be to open them anew by now."""
    held = outbox.hold(session, [outcome.id for outcome in outcomes], token)
    outbox.record_outcomes(session, [outcome for outcome in outcomes if outcome.id in held])


def _neighbours(part: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    """Runs of mails that lie one after the other in one object; a very large one is alone."""
    run: list[Claimed] = []
    for mail in part:
        if run:
            last = run[-1].raw
            if mail.raw.key != last.key or mail.raw.offset != last.offset + last.size:
                yield run
                run = []
        run.append(mail)
    if run:
        yield run
