"""Keys that the server listed no more for a while, and lists again: of the same mail or another.

A POP3 server may give the UIDL of a mail that is gone to a new one (RFC 1939 section 7), as one
does that counts its mails: by the key alone that would be had already, and never come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.fetcher.mail_contents import MailContent, contents_of
from services.fetcher.run import InDoubt, Run
from services.fetcher.storing import Intake
from shared.connections import AfterDownload
from shared.mail.arrival_date import arrival_date
from shared.mail.summary import (
    MailHeaders,
    is_telling,
    read_headers,
)
from shared.mailbox.base import Listing, MailRef
from shared.messages import Key
from shared.storage import leases
from shared.storage.key_contents import (
    Vanished,
    add_contents,
    contents,
    give_up_settling,
    listed_before,
    reappeared,
    rebind_keys,
    retire_keys,
    settle_again,
)
from shared.storage.pool import Session
from shared.storage.quarantine import left_on_server

#: Mails whose headers are compared before time is asked for.
_AT_ONCE: Final = 200
#: Of mails whose keys are their places those that are looked at first: where none has moved up,
#: none before them is gone.
_LAST_ONES: Final = 5


@dataclass(frozen=True, slots=True)
class Reused:
    """Of the keys that are listed again: those that name `other` mails now, which are new, or may
    do so (`Run.in_doubt`), those whose mails are `back`, which are to be settled once more, and
    those that are still to be compared in another run (`left`): they stay known as vanished."""

    other: Sequence[MailRef] = ()
    back: Sequence[MailRef] = ()
    left: Set[Key] = frozenset()


def reused(run: Run, listing: Listing) -> Reused:
    """Compares the mails of keys that are listed again, those listed last first, until time is
    up. Where no key came back, it costs a question to Postgres.

    So are compared those whose keys only say where in the list they stand (`Listing.by_place`).

    A server that showed an empty mailbox for an hour lists all of them again, as does one that
    takes deletions and keeps the mails. Once so many in a row are the same, the others are believed
    to be; those of them that are to be settled once more wait for the next look.

    Where headers are not shown, so many of them are downloaded: see `same_as_before`.
    """
    run.in_doubt, listed = InDoubt(), listing.listed
    if not listed or not run.mailbox.capabilities.reuses_keys:
        return Reused()
    folder_ref = run.folder_ref
    with run.tools.database.autocommit() as session:
        before = reappeared(session, folder_ref, [str(key) for key in listed])
    before |= _may_have_moved_up(run, listing)
    if not before:
        return Reused()
    again = _settled_again(run, before)
    left = [MailRef(key, 0) for key in listed if key in before]
    if not run.mailbox.capabilities.dates:
        unshown = [ref for ref in left if _is_in_doubt(before[str(ref.key)])]
        left = [ref for ref in left if not _is_in_doubt(before[str(ref.key)])]
        run.in_doubt = InDoubt(
            {ref.key: before[str(ref.key)].content for ref in unshown[-_AT_ONCE:]},
            {ref.key for ref in unshown[:-_AT_ONCE]},
        )
    compared: list[MailRef] = []
    other: dict[Key, bytes] = {}
    alike: set[Key] = set()
    while left and not (compared and run.is_over):
        piece, left = left[-_AT_ONCE:], left[:-_AT_ONCE]
        compared += piece
        found = _compared(run, before, piece, set(listing.by_place))
        other.update(found.other)
        alike |= found.alike
        if not found.other:
            left = [ref for ref in left if ref.key in again]
            break
    unsure = other.keys() | alike | run.in_doubt.contents.keys()
    same = {str(ref.key) for ref in compared if ref.key not in unsure}
    rebound, back = _record(run, listed, other, same & again)
    return Reused(
        [
            MailRef(key, 0)
            for key in listed
            if (key in other and key not in rebound) or key in run.in_doubt.contents
        ],
        [MailRef(key, 0) for key in listed if key in back],
        {ref.key for ref in left},
    )


def same_as_before(run: Run, session: Session, intake: Intake) -> set[Key]:
    """Which of the mails of a batch are those that their keys named before the server listed these
    no more, told by their headers. What the other keys named stays known by its content alone."""
    doubted = dict(run.in_doubt.contents)
    shown = {ref.key: m for ref, m in zip(intake.refs, intake.messages, strict=True)}
    same = {
        key: content
        for key, content in doubted.items()
        if key in shown and shown[key].header_digest == content
    }
    other = (shown.keys() | {item.key for item in intake.refused}) & doubted.keys() - same.keys()
    run.in_doubt.changed = run.in_doubt.changed or bool(other)
    retire_keys(session, run.folder_ref, [str(key) for key in other])
    add_contents(session, run.folder_ref, {str(key): content for key, content in same.items()})
    return set(same)


def replaced(run: Run, waiting: Sequence[Key]) -> bool:
    """Whether keys of mails that an earlier run committed and did not settle name other mails by
    now, which settling would remove unseen. Those become new; where one of them is a mail that
    waited under another key, it waits under this one."""
    capabilities, folder_ref = run.mailbox.capabilities, run.folder_ref
    if not (waiting and capabilities.reuses_keys and capabilities.dates):
        return False
    if not (run.removes or capabilities.expires_days == 0):
        return False
    with run.tools.database.autocommit() as session:
        before = contents(session, folder_ref, [str(key) for key in waiting])
    refs = [MailRef(key, 0) for key in before]
    now = _contents(run, refs, lambda key, one: one is not None and one.digest != before[str(key)])
    other = {
        str(key): content.digest if is_telling(content.header) else b""
        for key, content in now.items()
        if content.digest != before[str(key)]
    }
    if other:
        every = run.mailbox.keys()
        listed = [str(key) for key in every]
        with run.tools.database.transaction() as session:
            leases.assert_held(session, run.lease)
            give_up_settling(session, folder_ref, list(other))
            retire_keys(session, folder_ref, list(other))
            rebind_keys(
                session, folder_ref, listed, {k: digest for k, digest in other.items() if digest}
            )
    return bool(other)


def _settled_again(run: Run, before: Mapping[str, Vanished]) -> Set[str]:
    """Which keys' mails are to be settled once more where they are the same: what we deleted, not
    what the server lists no more for a while. In a window all, as it stands still over them."""
    if run.connection.after_download is AfterDownload.DELETE:
        return {key for key, one in before.items() if one.content and one.deleted}
    if run.mailbox.capabilities.window:
        return {key for key, one in before.items() if one.content}
    return frozenset()


class _Compared(NamedTuple):
    """The digests of those that are `other` mails than before; empty where they may have those of
    others. `alike`: the keys of those that hold the same, which others may as well."""

    other: dict[Key, bytes]
    alike: Set[Key]


def _compared(
    run: Run, before: Mapping[str, Vanished], refs: Sequence[MailRef], by_place: Set[Key]
) -> _Compared:

    def is_unclear(key: Key, now: MailContent | None) -> bool:
        if now is None:
            return key in by_place
        content, deleted = before[str(key)].content, before[str(key)].deleted
        return bool(content) and not deleted and now.digest != content

    now = _contents(run, refs, is_unclear)
    if run.mailbox.capabilities.dates:
        for ref in refs:
            if ref.key not in now and _is_in_doubt(before[str(ref.key)]):
                run.in_doubt.contents[ref.key] = before[str(ref.key)].content
    never_had = {key for key in now if not before[str(key)].content}
    quarantined = _quarantined(run, {str(key): now[key].header for key in never_had})
    other = {
        ref.key: _telling_digest(before[str(ref.key)], now.get(ref.key))
        for ref in refs
        if _is_other(run, before[str(ref.key)], now.get(ref.key))
        and str(ref.key) not in quarantined
    }
    untold = {key for key, content in now.items() if not is_telling(content.header)}
    return _Compared(other, untold - other.keys())


def _may_have_moved_up(run: Run, listing: Listing) -> dict[str, Vanished]:
    """What the keys named that only say where their mails stand, where the last of those that were
    had names another mail by now."""
    if run.mailbox.capabilities.expires_days == 0:
        return {}  # what was had is gone by itself; to look could confirm what was not
    new = {ref.key for ref in listing.new}
    had = [str(key) for key in listing.by_place if key not in new]
    last = _listed_before(run, had[-_LAST_ONES:])
    refs = [MailRef(key, 0) for key in had if key in last]
    moved = refs and _compared(run, last, refs, set(had)).other
    return _listed_before(run, had) if moved else {}


def _listed_before(run: Run, keys: Sequence[str]) -> dict[str, Vanished]:
    with run.tools.database.autocommit() as session:
        return listed_before(session, run.folder_ref, keys)


def _contents(
    run: Run, refs: Sequence[MailRef], unclear: Callable[[Key, MailContent | None], bool]
) -> dict[Key, MailContent]:
    limit = run.tools.settings.max_message_bytes
    return contents_of(run.mailbox, refs, limit=limit, unclear=unclear)


def _quarantined(run: Run, shown: Mapping[str, bytes]) -> Set[str]:
    """Which of these mails (key → header) lie in quarantine without their octets."""
    if not shown:
        return frozenset()
    with run.tools.database.autocommit() as session:
        entries = left_on_server(session, run.folder_ref, list(shown))
    said = {key: read_headers(header) for key, header in shown.items()}
    return {
        key
        for key, entry in entries.items()
        if entry
        == MailHeaders(
            message_id=said[key].message_id,
            sender=said[key].sender,
            subject=said[key].subject,
            date=said[key].date,
        )
    }


def _record(
    run: Run, listed: Sequence[Key], other: Mapping[Key, bytes], again: Set[str]
) -> tuple[Set[str], Set[str]]:
    """Retires the keys of `other` mails, and records what is to be settled `again`.

    Returns which of those keys name a mail now that is known under a key that is not listed, as one
    whose key was changed and changed back; and all that are to be settled.
    """
    if not other and not again:
        return frozenset(), frozenset()
    digests = {str(key): digest for key, digest in other.items() if digest}
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        settle_again(session, run.folder_ref, again)
        retire_keys(session, run.folder_ref, [str(key) for key in other])
        rebound = rebind_keys(session, run.folder_ref, [str(key) for key in listed], digests)
    return rebound.keys, again | (rebound.unsettled if run.removes else rebound.keys)


def _telling_digest(before: Vanished, now: MailContent | None) -> bytes:
    """By which a mail is recognised under whatever key; empty where others may have the same. One
    that only moved up is recognised by all of its octets."""
    if now is None or not (before.listed or is_telling(now.header)):
        return b""
    return now.digest


def _is_in_doubt(before: Vanished) -> bool:
    """Whether only its content tells that a mail is the one of before: what we deleted is believed
    to be another one, and what was never had is left alone."""
    return bool(before.content) and not before.deleted and not before.listed


def _is_other(run: Run, before: Vanished, now: MailContent | None) -> bool:
    """Whether a mail that holds this `now` is another one than that of `before`."""
    if before.listed and (now is None or not before.content):
        # As it is listed all the time, it was there when the others were passed over.
        skipped, arrived = run.state.skipped_before, now and arrival_date(now.header)
        return bool(skipped and arrived and arrived >= skipped)
    if now is None:  # not shown: where we deleted the mail, it is believed to be another one
        deletes = run.connection.after_download is AfterDownload.DELETE
        return deletes if before.deleted is None else before.deleted
    if before.content:
        return now.digest != before.content
    arrived, skipped_before = arrival_date(now.header), run.state.skipped_before
    return skipped_before is None or arrived is None or arrived >= skipped_before
