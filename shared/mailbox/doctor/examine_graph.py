"""What a run may ask of a mailbox over Microsoft Graph, by requests that only look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shared.connections import Selection
from shared.mailbox.base import MailRef, NothingKnown
from shared.mailbox.doctor.examination import (
    SAMPLES,
    WHOLE_FOLDER,
    Examination,
    download,
    look_up_by_name,
    opened,
)
from shared.mailbox.graph import batch as graph_batch
from shared.mailbox.graph import items_without_mime
from shared.mailbox.graph import listing as graph_listing
from shared.mailbox.graph.http import GraphError
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.quantities import counted

#: A request of a batch that changes nothing, in place of those that settle.
_LOOK: Final = {"method": "GET", "suffix": "?$select=id"}
#: Mails among which an S/MIME and a calendar item are looked for, and how many of those with
#: attachments are looked into.
_SEARCHED: Final = 100
_LOOKED_INTO: Final = 10
_NO_FORM: Final = GraphError(
    400, {"error": {"code": "Doctor", "message": "asked for by the doctor"}}, None
)


def examine(found: Examination) -> None:
    """Every form, part by part; requests stand alone, so one refusal says nothing of the next."""
    parts = (
        ("opening the mailbox", _folders),
        ("listing unread mails", _unread),
        ("listing all mails, and what comes later", _delta),
        ("downloading", _downloading),
    )
    for number, (doing, part) in enumerate(parts):
        if not found.left(doing):
            continue
        selection = Selection.ALL if part is _delta else Selection.UNREAD
        with (
            found.part(doing),
            found.session(found.with_selection(selection), fresh=not number) as mailbox,
        ):
            assert isinstance(mailbox, GraphMailbox)
            part(found, mailbox)
        if number == 0 and found.failures and not found.server:
            return
    found.not_asked.append(
        ("PATCH and DELETE of mails, permanentDelete", "they change the mailbox")
    )


def _folders(found: Examination, mailbox: GraphMailbox) -> None:
    found.folders = mailbox.folders()
    found.notes.append(f"The mailbox has {counted(len(found.folders), 'folder')}.")
    look_up_by_name(found, mailbox)


def _unread(found: Examination, mailbox: GraphMailbox) -> None:
    opened(found, mailbox)
    listing = mailbox.list_new(NothingKnown(), Selection.UNREAD, limit=SAMPLES)
    mailbox.list_new(NothingKnown(), Selection.UNREAD, limit=0)
    mailbox.keys()
    folder = found.connection.folder
    graph_listing.has_unread(mailbox.graph, mailbox.folder)
    graph_listing.newest_change(mailbox.graph, mailbox.folder)
    if mailbox.changed_since(folder, listing.cursor) is not None and listing.complete:
        found.notes.append(
            "The folder looks changed right after it was looked at, so each poll lists it."
        )


def _delta(found: Examination, mailbox: GraphMailbox) -> None:
    """The first delta request, and the link that it ends with."""
    total = opened(found, mailbox)
    mailbox.list_new(NothingKnown(), Selection.ALL, limit=0)
    small = total <= WHOLE_FOLDER
    listing = mailbox.list_new(NothingKnown(), Selection.ALL, limit=None if small else SAMPLES)
    if not small:
        found.not_asked.append(
            (
                "the stored delta link",
                f"it is at the end of the folder, which has {counted(total, 'item')}: examine "
                "a connection to a small folder of this mailbox as well",
            )
        )
    elif mailbox.changed_since(found.connection.folder, listing.cursor) is not None:
        found.notes.append("Mails came while the folder was looked at, or its link is not taken.")


def _downloading(found: Examination, mailbox: GraphMailbox) -> None:
    opened(found, mailbox)
    rows = _newest(mailbox)
    if not rows:
        return
    plain = next((row for row in rows if "@odata.type" not in row), rows[0])
    calendar = next((row for row in rows if "eventMessage" in str(row.get("@odata.type"))), None)
    smime = _smime_item(mailbox, rows)
    for row, kind in (
        (plain, "a plain mail"),
        (smime, "an S/MIME mail"),
        (calendar, "an invitation"),
    ):
        if row is None:
            found.not_asked.append((f"$value of {kind}", "there is none among the newest mails"))
            continue
        with found.part(f"downloading {kind}"):
            download(found, mailbox, [_ref(row)])
            if kind == "a plain mail":
                list(mailbox.headers([_ref(row)]))
    with found.part("reading the properties of a mail"):
        attached = smime or next((row for row in rows if row.get("hasAttachments")), plain)
        _properties(mailbox, _ref(attached))
    with found.part("several requests in one"):
        graph_batch.settle(mailbox.graph, [_ref(row) for row in rows[:SAMPLES]], _LOOK)


def _newest(mailbox: GraphMailbox) -> list[Mapping[str, Any]]:
    """The newest mails with what tells their kinds: a question of the doctor alone."""
    query = {
        "$select": "id,hasAttachments",
        "$orderby": "receivedDateTime desc",
        "$top": str(_SEARCHED),
    }
    path = f"{mailbox.graph.user}/mailFolders/{mailbox.folder.id}/messages"
    return list(mailbox.graph.get(path, query).get("value") or [])


def _smime_item(mailbox: GraphMailbox, rows: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    with_attachments = [row for row in rows if row.get("hasAttachments")]
    for row in with_attachments[:_LOOKED_INTO]:
        path = f"{mailbox.graph.message(_ref(row))}/attachments"
        found = mailbox.graph.get(path, items_without_mime.OF_ATTACHMENT).get("value") or []
        if len(found) == 1 and items_without_mime.is_smime(found[0]):
            return row
    return None


def _properties(mailbox: GraphMailbox, ref: MailRef) -> None:
    """What is asked for where a mail has no MIME form."""
    spool = items_without_mime.of_smime(mailbox.graph, ref, _NO_FORM)
    if spool is not None:
        spool.close()
    items_without_mime.rebuild(mailbox.graph, ref, _NO_FORM).close()


def _ref(row: Mapping[str, Any]) -> MailRef:
    return MailRef(str(row["id"]), 0)
