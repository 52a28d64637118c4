"""The only module that changes an IMAP mailbox: marking mails read, deleting exactly them.

Deleting (row M7) never removes what somebody else flagged: `UID EXPUNGE` (RFC 4315) names the
mails. A server without it gets a plain EXPUNGE only while nothing but our mails is flagged deleted;
else ours stay flagged and count as not settled, so that they are tried again with later ones.
Others' flags are never taken away around an EXPUNGE: that would change what they see, and lose the
flag where we break off in between. Between the last look and the EXPUNGE somebody may still flag a
mail: such a server cannot exclude that, so it is one command right behind the other.

On Gmail `\\Deleted` archives or does what the owner configured, so mails are moved to the folder
with the special use `\\Trash`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shared.connections import AfterDownload
from shared.mailbox.base import MailRef
from shared.mailbox.errors import server_answers
from shared.mailbox.failures import Refused, StepFailed, Unreachable
from shared.mailbox.imap.flags import flags_of
from shared.mailbox.imap.search import completed, is_limited, search, searches
from shared.mailbox.imap.sequence_sets import uid_sets
from shared.mailbox.imap.session import ImapSession, Reply, Untagged, string

_RIGHTS = "Give the account the right to change flags and to delete in this folder."
_PERMANENT = {"NOPERM", "READ-ONLY", "CANNOT", "OVERQUOTA"}


def settle(
    session: ImapSession,
    refs: Sequence[MailRef],
    action: AfterDownload,
    trash: bytes | None,
    *,
    keeps_seen: bool = True,
) -> list[MailRef]:
    """Acts on `refs` in the selected (read-write) folder; returns those settled for certain.

    `trash` is the server's name of the folder to move deleted mails to, None to delete in place.
    `keeps_seen` False: it says itself that it keeps no \\Seen (PERMANENTFLAGS, RFC 9051 section
    7.1); Dovecot takes the flag then, where its ACL has no right `s`, and does nothing.
    """
    by_uid = {int(ref.key): ref for ref in refs}
    uids = sorted(by_uid)
    if action is AfterDownload.MARK_READ:
        done = _store(session, uids, b"\\Seen", believed=keeps_seen)
    elif trash is not None:
        done = _move(session, uids, trash)
    elif "UIDPLUS" in session.capabilities or "IMAP4REV2" in session.capabilities:
        done = _expunge(session, uids)
    else:
        done = _expunge_if_alone(session, _store(session, uids, b"\\Deleted", expunged=True))
    return [by_uid[uid] for uid in done]


def _store(
    session: ImapSession,
    uids: Sequence[int],
    flag: bytes,
    *,
    believed: bool = True,
    expunged: bool = False,
) -> list[int]:
    """Those of `uids` that have the flag now; raises where none has.

    An OK proves nothing: there are servers that carry out a part of a STORE, or nothing. So it is
    not silent: most servers say with the answer what each mail has now, and name its UID (RFC 9051
    section 6.4.9). One search tells of the others: those that had the flag before, and all where a
    server says nothing, or is not to be `believed`. What is to be `expunged` is looked for later.
    """
    has: set[int] = set()
    wanted = flag.lower()

    def take(line: Untagged) -> bool:
        told = flags_of(line)
        if told is not None and wanted in told[1]:
            has.add(told[0])
        return _is_unsolicited(line)

    item = b" +FLAGS.SILENT (" if expunged else b" +FLAGS ("
    commands = [b"UID STORE " + octets + item + flag + b")" for octets, _ in uid_sets(uids)]
    replies = _pipelined(session, commands, take)
    if expunged and all(reply.ok and not is_limited(reply) for reply in replies):
        return list(uids)
    # One mail that vanished may fail a whole command (RFC 2180 section 4.2): look what is so now.
    unsure = [uid for uid in uids if uid not in has] if believed else uids
    lacking = _found(session, unsure, b" UN" + flag.lstrip(b"\\").upper()) if unsure else set()
    done = [uid for uid in uids if uid not in lacking]
    if not done:
        refusals = [reply for reply in replies if not reply.ok]
        raise refused(refusals[0]) if refusals else _not_set(flag, believed=believed)
    return done


def _not_set(flag: bytes, *, believed: bool) -> StepFailed:
    name = flag.decode()
    if not believed:
        return Refused(
            f"The mail server takes the flag {name} and does not set it: mails stay unread.",
            step="settle",
            code="read-only",
            hint=_RIGHTS,
        )
    return Unreachable(
        f"The mail server says that it set the flag {name}, but the mails do not have it.",
        step="settle",
        code="not-flagged",
        hint="Nothing is lost, and no mail comes twice: this is tried again by itself. If it "
        "stays, those who run the server have to look.",
    )


def _expunge(session: ImapSession, uids: Sequence[int]) -> list[int]:
    """Removes `uids` and no others, and believes it when a search finds them no more.

    Dovecot (2.3.19, Maildir) may say OK to an `UID EXPUNGE` that comes in one go with its STORE,
    and remove nothing: the flags were not in its view yet. So one comes after the other.
    """
    sets = [octets for octets, _ in uid_sets(uids)]
    replies = _pipelined(
        session, [b"UID STORE " + octets + b" +FLAGS.SILENT (\\Deleted)" for octets in sets]
    )
    replies += _pipelined(session, [b"UID EXPUNGE " + octets for octets in sets])
    return _gone(session, uids, replies)


def _move(session: ImapSession, uids: Sequence[int], trash: bytes) -> list[int]:
    target = string(trash)
    replies = [
        session.command(b"UID MOVE " + octets + b" ", target) for octets, _ in uid_sets(uids)
    ]
    return _gone(session, uids, replies)


def _gone(session: ImapSession, uids: Sequence[int], replies: Sequence[Reply]) -> list[int]:
    """Which of `uids` are no longer there after these replies. Raises where none has gone."""
    there = _found(session, uids)
    done = [uid for uid in uids if uid not in there]
    if not done:
        refusals = [reply for reply in replies if not reply.ok]
        if not refusals:
            raise Unreachable(
                "The mail server says that it deleted the mails, but they are still there.",
                step="settle",
                code="not-deleted",
            )
        raise refused(refusals[0])
    return done


def _expunge_if_alone(session: ImapSession, uids: Sequence[int]) -> list[int]:
    """Those of `uids` (flagged by us) that are gone: none while others' mails are flagged too."""
    ours = set(uids)
    # The first look goes beyond what the server may cut, the last one is right before the EXPUNGE.
    if ours.issuperset(search(session, b"DELETED")) and ours.issuperset(
        searches(session, [b"DELETED"])[0]
    ):
        return _gone(session, uids, [session.command(b"EXPUNGE")])
    there = _found(session, uids)
    return [uid for uid in uids if uid not in there]


def _found(session: ImapSession, uids: Sequence[int], what: bytes = b"") -> set[int]:
    """Which of `uids` the folder has (still), of those that are `what` (b" UNSEEN"). An answer that
    names some may have been cut."""
    queries = [b"UID " + octets + what for octets, _ in uid_sets(uids)]
    found = zip(queries, searches(session, queries), strict=True)
    return {uid for query, some in found if some for uid in completed(session, query, some)}


def _is_unsolicited(line: Untagged) -> bool:
    """Ten thousand `* n EXPUNGE` and flags that we set ourselves: nobody needs them."""
    return line.keyword in (b"EXPUNGE", b"VANISHED", b"FETCH", b"EXISTS", b"RECENT")


def _pipelined(
    session: ImapSession,
    commands: Sequence[bytes],
    take: Callable[[Untagged], bool] = _is_unsolicited,
) -> list[Reply]:
    """A few commands under way at once: none waits for the one before it."""
    replies: list[Reply] = []
    session.stream.start_clock()
    tags = session.send_all(commands[:6])
    for position in range(len(commands)):
        if position + 6 < len(commands):
            tags.append(session.send(commands[position + 6]))
        session.stream.start_clock()
        replies.append(session.reply(tags[position], on_untagged=take))
    return replies


def refused(reply: Reply) -> StepFailed:
    """What it means that a server does not change what it was told to."""
    text = reply.text or reply.status
    # [OVERQUOTA] is Gmail's word for its bandwidth limits, and others' for a full mailbox.
    understood = server_answers.of_command(text, "settle")
    if reply.code.partition(" ")[0].upper() in _PERMANENT and not (
        understood is not None and "bandwidth" in text.lower()
    ):
        return Refused(
            f"The mail server does not let us change this folder: {text}.",
            step="settle",
            code="read-only",
            hint=_RIGHTS,
        )
    return understood or server_answers.of_settling(text)
