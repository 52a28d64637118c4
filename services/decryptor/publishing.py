"""One event a mail to the queue of every handler that takes it."""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import structlog

from posthouse.signing import sign
from services.decryptor import choosing_handlers
from services.decryptor.choosing_handlers import Standing
from services.decryptor.event_signing_keys import EventSigningKeys
from services.decryptor.events import compose
from services.decryptor.mail_facts import MailFactsReader
from shared.alerts.mails import MailUnwanted
from shared.clock import utc_now
from shared.connections import Connection
from shared.errors import SecretKeyMissing, SecretUnreadable
from shared.mail.structure import Entity
from shared.messages import DecryptOutcome, RawRef
from shared.queueing.output import Output, Publication, QueueLost
from shared.rules.choosing import Choice
from shared.rules.facts import RuleFacts, kept
from shared.storage import alerts, deliveries, outbox
from shared.storage.deliveries import DeliveryTarget
from shared.storage.outbox import Release
from shared.storage.outbox_claims import Claimed, Redelivery
from shared.storage.pool import Database, Session
from shared.store import Store
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

#: Seconds until a mail is tried again whose handlers' queues did not take its event.
_OUTPUT_RETRY = 5.0
#: Seconds between two looks for a handler, for mails that no enabled handler takes any more.
_NO_HANDLER = 60.0


class ReadyMail(NamedTuple):
    """A mail that was looked into. `content`: the form that handlers read, where it is in memory
    already; `read`: what its header says, where that is known."""

    outcome: DecryptOutcome
    content: bytes | None = None
    read: Entity | None = None


Ready = Mapping[uuid.UUID, ReadyMail]


@dataclass(frozen=True, slots=True)
class _Batch:
    """The mails of one attempt, each read once: for the rules, the event and the ledger."""

    ready: Ready
    connections: Mapping[int, Connection]
    store: Store
    reader: MailFactsReader
    inline_max_bytes: int
    _read: dict[uuid.UUID, tuple[dict[str, Any], bytes | None]] = field(default_factory=dict)

    def read(self, mail: Claimed) -> tuple[dict[str, Any], bytes | None]:
        """(the facts for its event, the form that handlers read where it is in the event)."""
        found = self._read.get(mail.id)
        if found is None:
            found = self._read[mail.id] = self._read_now(mail)
        return found

    def kept(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
        """What the ledger keeps of the facts of those of them that were read."""
        return {i: kept(found[0]) for i in ids if (found := self._read.get(i))}

    def threads(self, mails: Iterable[Claimed]) -> dict[uuid.UUID, str]:
        """The first message id of the thread of those that were read and are not the first one."""
        found = ((one, self._read[one.id][0]) for one in mails if one.id in self._read)
        return {
            mail.id: thread
            for mail, facts in found
            if (thread := facts.get("thread", "")) not in ("", mail.headers.message_id)
            and not mail.thread
        }

    def rule_facts(self, mail: Claimed, *, with_header: bool) -> RuleFacts:
        """What rules may ask of it."""
        facts, content = self.read(mail)
        outcome = self.ready[mail.id].outcome
        header = None
        if with_header:
            ref = outcome.opened or mail.raw
            size = min(ref.size, choosing_handlers.HEADER_OCTETS)
            header = content or self.store.read(RawRef(ref.key, ref.offset, size))
        connection = self.connections.get(mail.connection_id)
        return choosing_handlers.rule_facts(mail, outcome, connection, facts, header)

    def _read_now(self, mail: Claimed) -> tuple[dict[str, Any], bytes | None]:
        outcome, content, read = self.ready[mail.id]
        readable = outcome.opened or mail.raw
        if content is None and readable.size <= self.inline_max_bytes:
            content = self.store.read(readable)
        connection = self.connections.get(mail.connection_id)
        if content is None:
            digest = outcome.opened_sha256 or mail.sha256
            stream = partial(self.store.stream, readable)
            return self.reader.of_stored(digest, stream, connection), None
        facts = self.reader.of_bytes(content, connection, read)
        return facts, content if len(content) <= self.inline_max_bytes else None


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes and records what was confirmed. Thread-safe where `output` is."""

    database: Database
    store: Store
    output: Output
    public_url: str
    inline_max_bytes: int
    facts: MailFactsReader
    signing_keys: EventSigningKeys
    #: Whether people are told of mails that no handler wants.
    alert_unwanted: bool = False

    def publish(
        self,
        mails: Sequence[Claimed],
        ready: Ready,
        connections: Mapping[int, Connection],
        token: uuid.UUID,
        reached: Callable[[str], None],
    ) -> None:
        """Finishes mails that every handler confirmed; gives the others back for later."""
        if not mails:
            return
        ids = [mail.id for mail in mails]
        standing = choosing_handlers.standing_of(self.database, mails, token)
        mine = set(standing.mine)
        batch = _Batch(ready, connections, self.store, self.facts, self.inline_max_bytes)
        ours = [mail for mail in mails if mail.id in mine]
        choices, lost = self._choose(ours, standing, batch, token, reached)
        if lost:
            mine -= lost
            ours = [mail for mail in ours if mail.id in mine]
        wanted: list[tuple[Claimed, DeliveryTarget]] = []
        waiting: list[Release] = []
        unwanted: set[uuid.UUID] = set()
        for mail in ours:
            chosen = _targets(mail, standing, choices.get(mail.id) if choices else None)
            wanted += [(mail, target) for target in chosen]
            if chosen or standing.delivered_to(mail):
                continue
            if mail.initial and not standing.candidates(mail):
                waiting.append(Release(mail.id, "No enabled handler takes it.", _NO_HANDLER))
            else:
                unwanted.add(mail.id)
        idle = {release.id for release in waiting}
        confirmed, failures = self._send(wanted, batch, standing)
        reached("published")
        notes = {
            (mail.id, handler): why
            for mail in (ours if choices else ())
            if mail.id in choices
            for handler, why in {**mail.doubts, **choices[mail.id].unsure}.items()
        }
        delivered = {
            (mail.id, handler): standing.redelivery(mail, handler)
            for mail in (ours if standing.delivered else ())
            for handler in standing.delivered_to(mail)
        }
        failed = {mail_id for mail_id, _ in failures}
        done = [i for i in ids if i in mine and i not in failed and i not in idle]
        releases = waiting + [
            Release(mail_id, reason[:1000], _OUTPUT_RETRY) for mail_id, reason in failures
        ]
        given_back = _first_of_each(releases)
        askings = {mail.id: mail.redeliveries for mail in ours if mail.redeliveries}
        finished = outbox.Finished(done, batch.kept(done), unwanted, batch.threads(ours))
        # Nearly always: every handler has confirmed what none of them had before.
        all_told = not (given_back or notes or delivered or (self.alert_unwanted and unwanted))

        def record(session: Session) -> int:
            held = outbox.hold(session, ids, token)
            ended = [i for i in done if i in held]
            given = [row for row in confirmed if row[0] in held]
            deliveries.record_deliveries(session, given, notes, delivered=delivered)
            by_asking = [(i, handler, _asking(askings, i, handler)) for i, handler, _ in given]
            left = outbox.leave(session, token, ended, by_asking)
            outbox.finish(session, token, finished._replace(ids=ended, left=left))
            if self.alert_unwanted:
                _alert_of_unwanted(
                    session,
                    [m for m in ours if m.initial and m.id in unwanted and m.id in held],
                    connections,
                )
            outbox.record_outcomes(
                session, [ready[r.id].outcome for r in given_back if r.id in held]
            )
            outbox.note_repeated(session, token, [row for row in by_asking if row[0] in failed])
            outbox.release(session, token, given_back)
            return len(ended)

        count = 0
        if all_told:
            complete = partial(outbox.complete, token=token, finished=finished, given=confirmed)
            count = len(self.database.perform(complete, single=True))
        if not all_told or count < len(done):
            count += self.database.perform(record)
        reached("delivered")
        _log.info("events published", mails=count, events=len(confirmed))
        _measure(mails, {mail_id for mail_id, _, _ in confirmed}, len(failures))

    def _choose(
        self,
        mails: Sequence[Claimed],
        standing: Standing,
        batch: _Batch,
        token: uuid.UUID,
        reached: Callable[[str], None],
    ) -> tuple[dict[uuid.UUID, Choice], set[uuid.UUID]]:
        """(who gets the mails that not everybody is to have, mails that are not ours any more).

        Recorded before anything is published.
        """
        choosy = [mail for mail in mails if standing.is_choosy(mail)]
        if not choosy:
            return {}, set()
        header = any(target.rules.asks_headers for target in standing.targets)
        choices = {
            mail.id: standing.choice(mail, partial(batch.rule_facts, mail, with_header=header))
            for mail in choosy
        }
        for mail in choosy:
            if choices[mail.id].unsure:
                reasons = list(choices[mail.id].unsure.values())
                _log.info("mail delivered in doubt", message_id=str(mail.id), reasons=reasons)
        held = self.database.perform(
            lambda session: choosing_handlers.record(session, token, choices, choosy, standing)
        )
        reached("decided")
        return choices, {mail.id for mail in choosy} - held

    def _send(
        self, wanted: Sequence[tuple[Claimed, DeliveryTarget]], batch: _Batch, standing: Standing
    ) -> tuple[list[tuple[uuid.UUID, int, str]], list[tuple[uuid.UUID, str]]]:
        """(message, handler, position) of the confirmed, (message, reason) of the others."""
        # One step for all mails, then the next: what a step's code needs stays in the nearest
        # caches, which saves a tenth of the time of going all the way with each mail.
        keys = {target.handler_id: self._keys(target) for target in standing.targets}
        sent: list[tuple[Claimed, DeliveryTarget]] = []
        confirmed: list[tuple[uuid.UUID, int, str]] = []
        failures: list[tuple[uuid.UUID, str]] = []
        for mail, target in wanted:
            given = keys[target.handler_id]
            if isinstance(given, str):
                failures.append((mail.id, given))
            else:
                sent.append((mail, target))
        if not sent:
            return confirmed, failures
        for mail, _ in sent:
            batch.read(mail)
        events = self._events(sent, batch, standing)
        signatures = [
            sign(target.name, event, given) if (given := keys[target.handler_id]) else ""
            for (_, target), event in zip(sent, events, strict=True)
        ]
        publications = [
            Publication(target.name, event, str(mail.id), signature)
            for (mail, target), event, signature in zip(sent, events, signatures, strict=True)
        ]
        with metrics.timed(metrics.PUBLISH_SECONDS):
            results = self.output.publish(publications)
        for (mail, target), result in zip(sent, results, strict=True):
            if isinstance(result, str):
                confirmed.append((mail.id, target.handler_id, result))
            else:
                failures.append((mail.id, f"{target.name}: {result}"))
        if failures:
            reasons: dict[str, int] = defaultdict(int)
            for _, reason in failures:
                reasons[reason] += 1
            # A queue that is not there yet (a new handler) or any more is the scheduler's to make.
            told = [result for result in results if not isinstance(result, str)]
            level = logging.INFO if all(isinstance(r, QueueLost) for r in told) else logging.WARNING
            _log.log(level, "events not confirmed", reasons=dict(reasons))
        return confirmed, failures

    def _keys(self, target: DeliveryTarget) -> list[str] | str:
        """What a handler's events are signed with, or why they cannot be: another decryptor may
        have the key already."""
        try:
            return self.signing_keys.keys_of(target)
        except (SecretKeyMissing, SecretUnreadable) as error:
            return f"{target.name}: {error}"

    def _events(
        self, sent: Sequence[tuple[Claimed, DeliveryTarget]], batch: _Batch, standing: Standing
    ) -> list[bytes]:
        """For each of them; those of one mail stand together, and are one event but for what they
        say of why it comes again."""
        trace = traces.inject().get("traceparent", "")
        made: list[bytes] = []
        of: Claimed | None = None
        events: dict[int, bytes] = {}
        for mail, target in sent:
            if mail is not of:
                of, events = mail, {}
            redelivery = standing.redelivery(mail, target.handler_id)
            asking = int(redelivery["count"]) if redelivery else 0
            if asking not in events:
                events[asking] = self._event(mail, batch, trace, redelivery)
            made.append(events[asking])
        return made

    def _event(
        self, mail: Claimed, batch: _Batch, trace: str, redelivery: Redelivery | None
    ) -> bytes:
        facts, content = batch.read(mail)
        connection = batch.connections.get(mail.connection_id)
        outcome = batch.ready[mail.id].outcome
        return compose(
            mail, outcome, connection, content, facts, self.public_url, trace, redelivery
        )


def _targets(mail: Claimed, standing: Standing, choice: Choice | None) -> list[DeliveryTarget]:
    """The handlers that take this mail and miss it, and those that shall have it again."""
    delivered, asked = standing.delivered_to(mail), standing.candidates(mail)
    if choice is None and not delivered and not mail.repeat_handlers:
        return asked
    missing = {target.handler_id for target in asked} - delivered
    if choice is not None:
        missing &= choice.chosen
    wanted = missing | mail.repeat_handlers
    return [target for target in standing.targets if target.handler_id in wanted]


def _asking(askings: Mapping[uuid.UUID, Mapping[int, Redelivery]], i: uuid.UUID, to: int) -> int:
    """The number of the asking by which a mail that was claimed goes to a handler."""
    return int(askings[i][to]["count"]) if to in askings.get(i, ()) else 0


def _alert_of_unwanted(
    session: Session, unwanted: Sequence[Claimed], connections: Mapping[int, Connection]
) -> None:
    """Raises the alert of mails that no handler wants."""
    for mail in unwanted:
        connection = connections.get(mail.connection_id)
        alert = MailUnwanted(
            name=connection.name if connection else "",
            message_id=str(mail.id),
            connection_id=mail.connection_id,
        )
        alerts.raise_together(session, alert)


def _first_of_each(releases: Sequence[Release]) -> list[Release]:
    return list({release.id: release for release in reversed(releases)}.values())


def _measure(mails: Sequence[Claimed], confirmed: set[uuid.UUID], failures: int) -> None:
    now, wall = utc_now(), time.time()
    done = [mail for mail in mails if mail.id in confirmed]
    first = sum(1 for mail in done if mail.initial)
    metrics.PUBLISHED_EVENTS.labels("first").inc(first)
    metrics.PUBLISHED_EVENTS.labels("repeat").inc(len(done) - first)
    for mail in done:
        if mail.initial:
            metrics.DOWNLOAD_TO_EVENT.observe((now - mail.downloaded_at).total_seconds())
            if mail.arrived_at is not None:
                metrics.ARRIVAL_TO_EVENT.observe(max(0.0, wall - mail.arrived_at.timestamp()))
    if failures:
        metrics.PUBLISH_FAILURES.inc(failures)
