"""Learns in the background which certificates their authorities have revoked.

Of each certificate that a mail was believed by: first from the lists of its authority, which tell
nobody whose mails are read here, then from its responder. What cannot be had leaves what is known
as it is, until that is out of date.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from services.scheduler.revocation_requests import Asker
from shared.allowed_hosts import HostRules
from shared.certificates import revocation as rules
from shared.certificates.identifiers import Unreadable
from shared.certificates.revocation import Unusable
from shared.clock import utc_now
from shared.revocations import Revocation
from shared.storage import revocations
from shared.storage.pool import Database
from shared.storage.revocations import DueCertificate, StoredList

log = structlog.get_logger(__name__)

_BATCH: Final = 64
_AUTHORITIES_AT_ONCE: Final = 4
#: An authority is asked again in the middle of what its last word covers, within these bounds.
_SOONEST: Final = timedelta(minutes=10)
_LATEST: Final = timedelta(days=1)
_NOBODY: Final = "The certificate names nobody who could be asked."


class _Usable(NamedTuple):
    """A list that was checked."""

    list: x509.CertificateRevocationList
    period: tuple[datetime, datetime]
    refresh_at: datetime


class _Learned(NamedTuple):
    revocation: Revocation
    next_attempt_at: datetime
    error: str = ""


def learn(database: Database, hosts: HostRules) -> int:
    """Learns what is due; returns for how many certificates it tried.

    Several schedulers may do so at once: each takes others. An authority that hangs delays only
    certificates of its own.
    """
    tried = 0
    while True:
        with database.transaction() as session:
            claimed = revocations.claim(session, _BATCH)
        authorities: dict[bytes, list[DueCertificate]] = defaultdict(list)
        for one in claimed:
            # By what it names as its authority's certificate: whoever noted it may be mistaken.
            authorities[one.issuer].append(one)
        with (
            Asker(database, hosts) as asker,
            ThreadPoolExecutor(_AUTHORITIES_AT_ONCE, thread_name_prefix="revocation") as pool,
        ):
            list(pool.map(partial(_learn_of, database, asker), authorities.values()))
        tried += len(claimed)
        if len(claimed) < _BATCH:
            return tried


def _learn_of(database: Database, asker: Asker, group: Sequence[DueCertificate]) -> None:
    authority: _Authority | None = None
    for due in group:
        try:
            authority = authority or _Authority(database, asker, due.issuer)
            certificate = x509.load_der_x509_certificate(due.certificate)
            certificate.verify_directly_issued_by(authority.certificate)
            learned = authority.learn(certificate, due)
        except (InvalidSignature, *Unreadable) as error:
            unknown = Revocation("unknown", reason="The certificate cannot be looked up.")
            learned = _Learned(unknown, utc_now() + _LATEST, str(error) or type(error).__name__)
        if learned.revocation.is_final and not due.known.is_final:
            log.warning("certificate of a signer revoked", fingerprint=due.fingerprint.hex())
        with database.transaction() as session:
            revocations.record(
                session,
                due,
                learned.revocation,
                error=learned.error,
                next_attempt_at=learned.next_attempt_at,
            )


class _Authority:
    """One authority, its lists each fetched or read once."""

    def __init__(self, database: Database, asker: Asker, der: bytes) -> None:
        self._database = database
        self._asker = asker
        self.certificate = x509.load_der_x509_certificate(der)
        self._key = rules.issuer_key(self.certificate)
        self._name = self.certificate.subject.rfc4514_string()
        self._lists: dict[str, _Usable | Unusable] = {}
        with database.transaction() as session:
            self._stored = {one.address: one for one in revocations.lists_of(session, self._key)}

    def learn(self, certificate: x509.Certificate, due: DueCertificate) -> _Learned:
        """What to write down about a certificate of this authority."""
        now = utc_now()
        problems: list[str] = []
        given = [""] if "" in self._stored else []
        addresses = [*given, *rules.list_addresses(certificate)]
        responders = rules.responder_addresses(certificate)
        for address in addresses:
            try:
                usable = self._list_at(address)
                found = rules.by_list(usable.list, certificate, usable.period)
                return _taken(found, due, usable.refresh_at)
            except Unusable as error:
                problems.append(str(error))
        for address in responders:
            try:
                answer = self._asker.answer_of(
                    address, rules.question(certificate, self.certificate)
                )
                found = rules.by_responder(answer, certificate, self.certificate, now)
                return _taken(found, due, _middle(found.next_update or now, now))
            except Unusable as error:
                problems.append(str(error))
        if not addresses and not responders:
            return _Learned(due.known._replace(reason=due.known.reason or _NOBODY), now + _LATEST)
        why = " ".join(dict.fromkeys(problems))
        known = due.known
        if known.status in ("not-checked", "unknown"):
            known = Revocation("unknown", reason=why[:300])
        log.info("revocation not learned", error=why)
        return _Learned(known, _later(due.failures, now), why)

    def _list_at(self, address: str) -> _Usable:
        if address not in self._lists:
            try:
                self._lists[address] = self._current(address)
            except Unusable as error:
                self._lists[address] = error
        found = self._lists[address]
        if isinstance(found, Unusable):
            raise Unusable(str(found))
        return found

    def _current(self, address: str) -> _Usable:
        stored = self._stored.get(address)
        now = utc_now()
        if not address or (stored is not None and stored.list and now < stored.refresh_at):
            assert stored is not None
            return self._read(stored, now)
        try:
            if stored is not None and now < stored.refresh_at:
                raise Unusable(f"The list at {address} could not be had, and is tried again later.")
            return self._fetched(address, stored, now)
        except Unusable:
            if stored is not None and stored.list:
                return self._read(stored, now)
            raise

    def _read(self, stored: StoredList, now: datetime) -> _Usable:
        found = rules.read_list(stored.list or b"")
        period = rules.check_list(found, self.certificate, now)
        return _Usable(found, period, max(stored.refresh_at, now + _SOONEST))

    def _fetched(self, address: str, stored: StoredList | None, now: datetime) -> _Usable:
        try:
            found = rules.read_list(self._asker.list_at(address))
            period = rules.check_list(found, self.certificate, now)
            if stored is not None and stored.as_of is not None and period[0] < stored.as_of:
                raise Unusable(f"The list at {address} is older than the one that was had before.")
            refresh_at = _middle(period[1], now)
            with self._database.transaction() as session:
                kept = revocations.write_list(
                    session,
                    issuer_key=self._key,
                    issuer_name=self._name,
                    address=address,
                    list=found.public_bytes(Encoding.DER),
                    as_of=period[0],
                    next_update=period[1],
                    refresh_at=refresh_at,
                )
            if kept is None:
                log.warning("revocation list not kept", reason="there is no room", address=address)
            return _Usable(found, period, refresh_at)
        except Unusable as error:
            with self._database.transaction() as session:
                revocations.record_list_failure(
                    session,
                    issuer_key=self._key,
                    issuer_name=self._name,
                    address=address,
                    refresh_at=_later(stored.failures if stored else 0, now),
                    error=str(error),
                )
            raise


def _taken(found: Revocation, due: DueCertificate, next_attempt_at: datetime) -> _Learned:
    if found.is_newer(due.known):
        return _Learned(found, next_attempt_at)
    return _Learned(due.known, next_attempt_at, "The answer is older than what is known already.")


def _middle(until: datetime, now: datetime) -> datetime:
    """When to ask again what counts until then, spread a little."""
    half = (until - now) / 2
    return now + min(max(half, _SOONEST), _LATEST) * random.uniform(0.9, 1.0)  # noqa: S311 (jitter)


def _later(failures: int, now: datetime) -> datetime:
    """Ten minutes after the first failure, then twice as long each time, a day at most."""
    delay = min(_SOONEST * 2.0 ** min(failures, 8), _LATEST)
    return now + delay * random.uniform(0.8, 1.0)  # noqa: S311 (jitter)
