"""Sizes, dates and flags of many mails: `UID FETCH … (UID RFC822.SIZE INTERNALDATE FLAGS)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from shared.mailbox.base import MailRef
from shared.mailbox.imap.folder_names import decode_name
from shared.mailbox.imap.search import search
from shared.mailbox.imap.sequence_sets import uid_sets
from shared.mailbox.imap.session import ImapSession, Reply, Untagged
from shared.messages import Key

_ITEMS = b"(UID RFC822.SIZE INTERNALDATE FLAGS)"
_GMAIL_ITEMS = b"(UID RFC822.SIZE INTERNALDATE FLAGS X-GM-MSGID X-GM-THRID X-GM-LABELS)"
#: What nearly every answer looks like, its items in any order; all else takes the slower way.
_USUAL = re.compile(
    rb"\((?:(?:UID (\d{1,10})|RFC822\.SIZE (\d{1,19})|INTERNALDATE \"([^\"]{26})\""
    rb"|FLAGS \(([^()]*)\))(?: |\)\Z)){4}\Z"
)
_UID = re.compile(rb"[( ]UID (\d{1,10})[ )]", re.I)
_SIZE = re.compile(rb"[( ]RFC822\.SIZE (\d{1,19})[ )]", re.I)
_DATE = re.compile(rb'[( ]INTERNALDATE "([^"]{20,40})"', re.I)
_FLAGS = re.compile(rb"[( ]FLAGS \(([^()]*)\)", re.I)
_GMAIL = re.compile(rb"[( ]X-GM-MSGID (\d{1,20})[ )]", re.I)
_THREAD = re.compile(rb"[( ]X-GM-THRID (\d{1,20})[ )]", re.I)
_LABELS = re.compile(rb'([( ])X-GM-LABELS \(((?:"(?:[^"\\]|\\.)*"|[^"()])*)\)', re.I)
_LABEL = re.compile(rb'"((?:[^"\\]|\\.)*)"|([^" ]+)')
_ESCAPED = re.compile(rb"\\(.)")
_LITERAL_END = re.compile(rb"\{\d+\+?\}(?:\r\n)?$")
_MOST_LABELS = 100
_LONGEST_LABEL = 255
_MONTHS = {
    name: number
    for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}
_ISO_MONTHS = {name.decode().capitalize(): f"{number:02d}" for name, number in _MONTHS.items()}
_BITS = (1 << 64) - 1
_NO_DETAIL: Mapping[str, Any] = {}


Described = dict[Key, MailRef]


def fetch_attributes(
    session: ImapSession, uids: Sequence[int], described: Mapping[Key, MailRef] | None = None
) -> tuple[list[MailRef], Reply | None]:
    """The mails that still exist, in the order of `uids` (rising), and the last refusal if any.

    A mail that exists but is described in a way we cannot read has size 0: it is not left out.
    Those that were `described` already, with their size, are not asked for.
    """
    described = described or {}
    found: Described = {uid: described[uid] for uid in uids if uid in described}
    left = [uid for uid in uids if uid not in found or not found[uid].size]
    refused = _fetch(session, left, _items(session), taking(found)) if left else None
    unclear = [uid for uid in uids if uid not in found]
    if unclear:
        sets = [octets for octets, _ in uid_sets(unclear)]
        there = {uid for octets in sets for uid in search(session, b"UID " + octets)}
        found |= {uid: MailRef(uid, 0) for uid in unclear if uid in there}
    return [found[uid] for uid in uids if uid in found], refused


def describe(
    session: ImapSession,
    uids: Sequence[int],
    limit: int | None,
    described: Mapping[Key, MailRef],
    *,
    unread: bool,
) -> tuple[list[MailRef], int, Reply | None]:
    """The same of the first mails, up to `limit`, and how many are left behind these.

    Of mails that a search found `unread`, what their flags say is believed: somebody may just have
    read one, or the server finds others than it was asked for (Purelymail: purelymail-issues #445).
    """
    refs: list[MailRef] = []
    refused: Reply | None = None
    done = 0
    while refused is None and done < len(uids) and (limit is None or len(refs) < limit):
        chosen = uids[done:] if limit is None else uids[done : done + limit - len(refs)]
        found, refused = fetch_attributes(session, chosen, described)
        refs += [ref for ref in found if not (unread and ref.seen)]
        done += len(chosen)
    return refs, len(uids) - done, refused


def from_on(session: ImapSession, uid: int) -> bytes:
    """The command that asks for all mails from this UID on, and always for the last one."""
    return b"UID FETCH %d:* " % uid + _items(session)


def next_ones(session: ImapSession, uid: int, count: int) -> bytes:
    """The command that asks for those mails that have one of so many UIDs from this one on."""
    return b"UID FETCH %d:%d " % (uid, uid + count - 1) + _items(session)


def taking(found: Described) -> Callable[[Untagged], bool]:
    """Puts what is answered into `found`."""

    def take(line: Untagged) -> bool:
        if line.keyword != b"FETCH":
            return False
        ref = _parse(line)
        if ref is not None and (ref.size or ref.key not in found):
            found[ref.key] = ref
        return True

    return take


def _items(session: ImapSession) -> bytes:
    return _GMAIL_ITEMS if "X-GM-EXT-1" in session.capabilities else _ITEMS


def _fetch(
    session: ImapSession, uids: Sequence[int], items: bytes, take: Callable[[Untagged], bool]
) -> Reply | None:
    """A few commands under way at once; returns the last refusal, if any."""
    refused: Reply | None = None
    commands = [b"UID FETCH " + octets + b" " + items for octets, _ in uid_sets(uids)]
    session.stream.start_clock()
    tags = session.send_all(commands[:4])
    for position in range(len(commands)):
        if position + 4 < len(commands):
            tags.append(session.send(commands[position + 4]))
        session.stream.start_clock()
        reply = session.reply(tags[position], on_untagged=take)
        refused = refused if reply.ok else reply
    return refused


def _parse(line: Untagged) -> MailRef | None:
    """One FETCH response; None where no UID says which mail it is about."""
    usual = _USUAL.match(line.rest)
    if usual is not None:
        told, octets, date, flags = usual.groups()
        if told and octets and date and flags is not None:
            seen = b"\\seen" in flags.lower()
            return MailRef(int(told), int(octets), parse_date(date), seen, _NO_DETAIL)
    return _parse_any(line)


def _parse_any(line: Untagged) -> MailRef | None:
    rest = b" ".join(part if isinstance(part, bytes) else _quoted(*part) for part in line.parts)
    # Labels may hold any word: what else is looked for must not be found in them.
    labels = _LABELS.search(rest)
    rest = _LABELS.sub(rb"\1", rest)
    uid = _UID.search(rest)
    if uid is None:
        return None
    size, date, flags = _SIZE.search(rest), _DATE.search(rest), _FLAGS.search(rest)
    gmail = _GMAIL.search(rest)
    return MailRef(
        int(uid[1]),
        int(size[1]) if size else 0,
        parse_date(date[1]) if date else None,
        (b"\\seen" in flags[1].lower()) if flags else None,
        _gmail_detail(int(gmail[1]), _THREAD.search(rest), labels) if gmail else _NO_DETAIL,
    )


def _quoted(text: bytes, literal: bytes) -> bytes:
    """A literal among labels as a quoted string; any other is left out."""
    if b"X-GM-LABELS" not in text.upper():
        return text
    escaped = literal.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return _LITERAL_END.sub(b"", text) + b'"' + escaped + b'"'


def _gmail_detail(
    mail: int, thread: re.Match[bytes] | None, labels: re.Match[bytes] | None
) -> Mapping[str, Any]:
    """As in `MailRef.detail`. X-GM-LABELS are astrings in modified UTF-7 ("IMAP extensions")."""
    detail: dict[str, Any] = {"gmail_id": _signed(mail)}
    if thread is not None:
        detail["thread"] = str(int(thread[1]))
    if labels is not None:
        found = _LABEL.findall(labels[2])[:_MOST_LABELS]
        detail["labels"] = tuple(
            decode_name(_ESCAPED.sub(rb"\1", quoted) if quoted else atom)[:_LONGEST_LABEL]
            for quoted, atom in found
        )
    return detail


def _signed(number: int) -> int:
    """64 bits as databases take them."""
    return (number & _BITS) - (_BITS + 1 if number & _BITS >= 1 << 63 else 0)


def parse_date(text: bytes) -> datetime | None:
    """`17-Jul-1996 02:44:25 -0700` (RFC 3501 date-time) in UTC; None where it is no such date."""
    if len(text) == 26:
        try:
            words = text.decode("ascii")
            day, zone = words[:2].lstrip(), words[21:]
            said = f"{words[7:11]}-{_ISO_MONTHS[words[3:6]]}-{day:0>2}T{words[12:20]}{zone}"
            moment = datetime.fromisoformat(said)
            return moment if zone == "+0000" else moment.astimezone(UTC)
        except (ValueError, KeyError, OverflowError):
            pass
    return _parse_any_date(text)


def _parse_any_date(text: bytes) -> datetime | None:
    text = text.strip().rjust(26)
    try:
        sign = -1 if text[21:22] == b"-" else 1
        offset = sign * (int(text[22:24]) * 60 + int(text[24:26]))
        moment = datetime(
            int(text[7:11]),
            _MONTHS[text[3:6].lower()],
            int(text[0:2]),
            int(text[12:14]),
            int(text[15:17]),
            min(int(text[18:20]), 59),
            tzinfo=UTC if offset == 0 else timezone(timedelta(minutes=offset)),
        )
        return moment if offset == 0 else moment.astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


def search_date(moment: datetime) -> bytes:
    """A date as SEARCH takes it: `1-Feb-1994`."""
    names = list(_MONTHS)
    name = names[moment.month - 1].capitalize()
    return b"%d-%s-%04d" % (moment.day, name, moment.year)
