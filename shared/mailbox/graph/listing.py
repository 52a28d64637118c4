"""What is new in a Graph folder: unread mails by a filter, all mails by a delta query.

Sources: "List messages" (properties of $orderby come first in $filter; $top up to 1000), "message:
delta" and "Get incremental changes to messages in a folder".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from shared.connections import Selection
from shared.mailbox.base import Cursor, Known, Listing, MailRef
from shared.mailbox.graph.folders import FollowedLinks, GraphFolder, pages, rows_of
from shared.mailbox.graph.http import GraphError, GraphHttp

#: PidTagMessageSize (MS-OXPROPS 2.797), which is no property of message itself.
_SIZE: Final = "Integer 0x0E08"
#: What a listing asks of each mail; where mails are only counted, the first is enough.
_COUNTED: Final = "id,receivedDateTime,isRead"
_SELECT: Final = _COUNTED + ",conversationId,categories"
_MOST_LABELS: Final = 100
_LONGEST: Final = 255
_PAGE: Final = 250
_COUNTING_PAGE: Final = 1000
_EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Found:
    """What the pages so far held. Where they are not `ordered`, all are read, and the oldest mails
    that `limit` allows are kept."""

    known: Known
    since: datetime | None
    limit: int | None
    ordered: bool = True
    new: list[MailRef] = field(default_factory=list)
    new_count: int = 0
    known_count: int = 0
    reset: list[str] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)
    whole: bool = True
    #: Whether pages were left unread, as `limit` was reached.
    cut: bool = False
    pages: int = 0

    def take(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Sorts a page into new and known; False where `limit` is reached."""
        self.pages += 1
        refs = {}
        for row in rows:
            ref = _ref(row)
            early = self.since is not None and ref.arrived is not None and ref.arrived < self.since
            if "@removed" not in row and ref.key not in self.listed and not early:
                refs[str(ref.key)] = ref
        self.listed.update(refs)
        missing = self.known.missing(list(refs)) if refs else []
        wanted = {str(key) for key in missing}
        self.known_count += len(refs) - len(wanted)
        self.reset += [key for key, ref in refs.items() if ref.seen is False and key not in wanted]
        self.new_count += len(wanted)
        if not self.ordered and self.limit:
            self._keep_oldest(refs[str(key)] for key in missing)
            return True
        for key in missing:
            if self.limit is not None and len(self.new) >= self.limit:
                self.whole = False
                break
            self.new.append(refs[str(key)])
        self.cut = not self.whole and self.limit != 0
        return not self.cut

    def _keep_oldest(self, refs: Iterable[MailRef]) -> None:
        assert self.limit is not None
        every = [*self.new, *refs]
        self.new = heapq.nsmallest(self.limit, every, key=_arrival)
        self.whole = self.whole and len(self.new) == len(every)


def list_unread(
    graph: GraphHttp,
    folder: GraphFolder,
    known: Known,
    *,
    since: datetime | None,
    limit: int | None,
) -> Listing:
    """Unread mails, the oldest first. Everything is collected before anything is marked read, as
    pages shift when mails leave the filter."""
    sizes, ordered = limit != 0, True
    while True:
        try:
            found = _unread(graph, folder, _Found(known, since, limit, ordered), sizes=sizes)
            break
        except GraphError as failure:
            if failure.status != 400:
                raise
            if sizes and "expand" in failure.words.lower():
                # 21Vianet's cloud was reported not to know extended properties: sizes are hints.
                graph.transcript.note("the server does not tell sizes: listing without them")
                sizes = False
            elif ordered and failure.code.lower() == "inefficientfilter":
                # Documented for an order that the filter does not begin with, reported of others.
                graph.transcript.note("the server does not sort: sorting here")
                ordered = False
            else:
                raise
    if not ordered:
        found.new.sort(key=_arrival)
    return Listing(
        new=tuple(found.new),
        known=found.known_count,
        reset_keys=tuple(found.reset),
        total=folder.total,
        unread=folder.unread,
        cursor=unread_cursor(folder, None),
        complete=found.whole,
        more=_left_out(found, folder.unread),
    )


def _unread(graph: GraphHttp, folder: GraphFolder, found: _Found, *, sizes: bool) -> _Found:
    query = {"$filter": "isRead eq false"}
    if found.ordered:
        since = _instant(found.since or _EARLIEST)
        query = {
            "$filter": f"receivedDateTime ge {since} and isRead eq false",
            "$orderby": "receivedDateTime",
        }
    query |= {
        "$select": _COUNTED if found.limit == 0 else _SELECT,
        "$top": str(_COUNTING_PAGE if found.limit == 0 else _PAGE),
    }
    if sizes:
        query["$expand"] = f"singleValueExtendedProperties($filter=id eq '{_SIZE}')"
    path = f"{graph.user}/mailFolders/{folder.id}/messages"
    _collect(found, pages(graph, path, query), found.limit)
    return found


def list_all(
    graph: GraphHttp,
    folder: GraphFolder,
    known: Known,
    *,
    since: datetime | None,
    limit: int | None,
    cursor: Cursor | None,
) -> Listing:
    """Every mail, or with a `cursor` those that came after it. A link that the server does not
    take any more, of an earlier round or of this one, begins anew once: what is known stays known.

    Only the server sorts a delta query: where `limit` cuts it, the rest may hold older mails.
    """
    link = str((cursor or {}).get("delta") or "")
    found = _Found(known, since, limit)
    if limit == 0:  # counting needs no state at the server
        plain = f"{graph.user}/mailFolders/{folder.id}/messages"
        query = {"$select": _COUNTED, "$top": str(_COUNTING_PAGE)}
        _collect(found, pages(graph, plain, query), limit)
        following = link
    else:
        try:
            following = _delta(graph, folder, found, link)
        except GraphError as failure:
            if not (link or found.pages) or not failure.forgets_link:
                raise
            graph.transcript.note("the delta link is not taken any more: listing everything again")
            link, found = "", _Found(known, since, limit)
            following = _delta(graph, folder, found, "")
    found.new.sort(key=_arrival)
    whole_folder = found.whole and not link and since is None and limit != 0
    return Listing(
        new=tuple(found.new),
        known=found.known_count,
        reset_keys=tuple(found.reset),
        total=folder.total,
        unread=folder.unread,
        cursor=delta_cursor(folder, following),
        complete=found.whole,
        more=_left_out(found, folder.total),
        listed=tuple(found.listed) if whole_folder else None,
    )


def has_unread(graph: GraphHttp, folder: GraphFolder) -> bool:
    """Whether there is any unread mail in the folder."""
    query = {"$filter": "isRead eq false", "$select": "id", "$top": "1"}
    answer = graph.get(f"{graph.user}/mailFolders/{folder.id}/messages", query)
    return bool(rows_of(graph, answer))


def delta_has_changes(graph: GraphHttp, cursor: Cursor) -> bool:
    """Whether anything came since a delta cursor: one request where not."""
    try:
        answer = graph.get(str(cursor["delta"]), prefer=(f"odata.maxpagesize={_PAGE}",))
    except GraphError as failure:
        if failure.forgets_link:
            return True
        raise
    rows = [row for row in rows_of(graph, answer) if "@removed" not in row]
    return bool(rows or answer.get("@odata.nextLink"))


def all_keys(graph: GraphHttp, folder: GraphFolder) -> list[str]:
    """Every id in the folder, the oldest mail first."""
    query = {"$select": "id,receivedDateTime", "$top": str(_COUNTING_PAGE)}
    path = f"{graph.user}/mailFolders/{folder.id}/messages"
    refs = [_ref(row) for row in pages(graph, path, query)]
    # Unasked, Graph gives the newest first: of one second too, the older one comes first here.
    refs.reverse()
    return list(dict.fromkeys(str(ref.key) for ref in sorted(refs, key=_arrival)))


def unread_cursor(folder: GraphFolder, newest: Sequence[str] | None) -> Cursor:
    """Counts, and the mail that was changed last (id and time), where that was looked up."""
    return {
        "kind": Selection.UNREAD.value,
        "folder": folder.id,
        "total": folder.total,
        "unread": folder.unread,
        "newest": list(newest) if newest else None,
    }


def delta_cursor(folder: GraphFolder, link: str) -> Cursor:
    return {"kind": Selection.ALL.value, "folder": folder.id, "delta": link}


def newest_change(graph: GraphHttp, folder: GraphFolder) -> list[str]:
    """Id and time of the mail in the folder that was changed last; empty where there is none."""
    answer = graph.get(
        f"{graph.user}/mailFolders/{folder.id}/messages",
        {
            "$select": "id,lastModifiedDateTime",
            "$orderby": "lastModifiedDateTime desc",
            "$top": "1",
        },
    )
    rows = rows_of(graph, answer)
    return [str(rows[0]["id"]), str(rows[0].get("lastModifiedDateTime"))] if rows else []


def _delta(graph: GraphHttp, folder: GraphFolder, found: _Found, link: str) -> str:
    """Takes a round of a delta query; returns the link for the next one."""
    prefer = (f"odata.maxpagesize={_PAGE}",)
    if not link:
        # No sizes here: Graph was reported to refuse $expand with a $filter in it behind a
        # function ("Parsing OData Select and Expand failed"). Whoever downloads counts anyway.
        query = {"changeType": "created", "$select": _SELECT}
        link = graph.url(f"{graph.user}/mailFolders/{folder.id}/messages/delta", query)
    followed = FollowedLinks(graph.host)
    while True:
        followed.follow(link)
        answer = graph.get(link, prefer=prefer)
        rows = rows_of(graph, answer)
        followed.gave(str(row.get("id")) for row in rows)
        going_on = found.take(rows)
        if "@odata.deltaLink" in answer:
            return graph.url(str(answer["@odata.deltaLink"]))
        if not going_on or "@odata.nextLink" not in answer:
            return link  # where `limit` was reached, `found` says so
        link = graph.url(str(answer["@odata.nextLink"]))


def _collect(found: _Found, rows: Iterator[Mapping[str, Any]], limit: int | None) -> None:
    page: list[Mapping[str, Any]] = []
    size = _COUNTING_PAGE if limit == 0 else _PAGE
    for row in rows:
        page.append(row)
        if len(page) >= size:
            if not found.take(page):
                return
            page = []
    found.take(page)


def _left_out(found: _Found, at_most: int) -> int:
    """How many new mails `limit` left out. Where pages were left unread, the folder's count has to
    do: it also counts mails before `since`, and what is no mail."""
    if found.whole:
        return 0
    counted = found.new_count - len(found.new)
    if not found.cut:
        return counted
    return max(1, counted, at_most - found.known_count - len(found.new))


def _arrival(ref: MailRef) -> datetime:
    return ref.arrived or _EARLIEST


def _ref(row: Mapping[str, Any]) -> MailRef:
    size = 0
    for one in row.get("singleValueExtendedProperties") or []:
        # Graph writes the tag back in its own way: "Integer 0xe08".
        if str(one.get("id", "")).lower().replace("0x0", "0x") == _SIZE.lower().replace(
            "0x0", "0x"
        ):
            size = int(one.get("value") or 0)
    read = row.get("isRead")
    return MailRef(
        key=str(row["id"]),
        size=size,
        arrived=_moment(row.get("receivedDateTime")),
        seen=read if isinstance(read, bool) else None,
        detail=_detail(row),
    )


def _detail(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """As in `MailRef.detail`, of message: conversationId and categories."""
    detail: dict[str, Any] = {}
    if thread := row.get("conversationId"):
        detail["thread"] = str(thread)[:_LONGEST]
    if labels := row.get("categories"):
        detail["labels"] = tuple(str(one)[:_LONGEST] for one in labels[:_MOST_LABELS])
    return detail


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
