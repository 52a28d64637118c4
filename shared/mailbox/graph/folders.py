"""Folders in Graph: by path, the inbox by its well-known name, near matches when one is missing.

Sources: "mailFolder resource type" (well-known folder names), "List childFolders".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import TryAgain
from shared.mailbox.base import Folder
from shared.mailbox.failures import FolderMissing, SessionLost
from shared.mailbox.graph.http import GraphHttp

_SELECT: Final = "id,displayName,childFolderCount,totalItemCount,unreadItemCount"
_INBOX: Final = "INBOX"
_DEEPEST: Final = 30
_MOST: Final = 5000
#: Pages in a row without a row that is new: some are usual, as Graph filters after it cut.
_MOST_IN_VAIN: Final = 500


@dataclass(frozen=True, slots=True)
class GraphFolder:
    """`id` is constant. The counts are of all items, mails and others: estimates."""

    id: str
    name: str
    children: int
    total: int
    unread: int


def find(graph: GraphHttp, path: str) -> GraphFolder:
    """The folder of that path (empty: the inbox). Raises FolderMissing with near matches."""
    if not path or path.upper() == _INBOX:
        return _folder(graph.get(f"{graph.user}/mailFolders/inbox", {"$select": _SELECT}))
    found = _descend(graph, None, path.split("/"))
    if found is None:
        raise FolderMissing(path, near(path, [folder.name for folder in every(graph)]))
    return found


def again(graph: GraphHttp, folder_id: str) -> GraphFolder:
    """The same folder with its counts as they are now."""
    return _folder(graph.get(f"{graph.user}/mailFolders/{folder_id}", {"$select": _SELECT}))


def every(graph: GraphHttp) -> list[Folder]:
    """All folders of the mailbox, parents before their children. The inbox is called INBOX here,
    whatever its language, as over IMAP."""
    inbox = find(graph, "")
    named = [Folder(path) for path, _ in _walk(graph, None, "", 0, inbox.id)]
    return named if any(folder.name == _INBOX for folder in named) else [Folder(_INBOX), *named]


def near(path: str, names: list[str]) -> list[str]:
    """Names that look like `path`: another case, another level, a typing error."""
    leaf = path.rpartition("/")[2].casefold()
    same = [name for name in names if name.rpartition("/")[2].casefold() == leaf]
    by_case = {name.casefold(): name for name in names}
    alike = difflib.get_close_matches(path.casefold(), by_case, n=3, cutoff=0.6)
    return list(dict.fromkeys([*same, *(by_case[name] for name in alike)]))[:3]


def _descend(graph: GraphHttp, parent: GraphFolder | None, parts: list[str]) -> GraphFolder | None:
    if not parts:
        return parent
    if parent is None and parts[0].upper() == _INBOX:
        return _descend(graph, find(graph, ""), parts[1:])
    # A name may hold a slash itself: the longer ones are tried after the shorter.
    for size in range(1, len(parts) + 1):
        child = _child(graph, parent, "/".join(parts[:size]))
        if child is not None:
            found = _descend(graph, child, parts[size:])
            if found is not None:
                return found
    return None


def _child(graph: GraphHttp, parent: GraphFolder | None, name: str) -> GraphFolder | None:
    escaped = name.replace("'", "''")
    page = graph.get(
        _children_of(graph, parent),
        {"$filter": f"displayName eq '{escaped}'", "$select": _SELECT, "$top": "10"},
    )
    # The service compares without regard to case; the exact name goes first.
    rows = rows_of(graph, page)
    rows.sort(key=lambda row: row.get("displayName") != name)
    for row in rows:
        if str(row.get("displayName", "")).casefold() == name.casefold():
            return _folder(row)
    return None


def _walk(
    graph: GraphHttp, parent: GraphFolder | None, prefix: str, depth: int, inbox: str
) -> Iterator[tuple[str, GraphFolder]]:
    rows = pages(graph, _children_of(graph, parent), {"$select": _SELECT, "$top": "100"})
    for count, row in enumerate(rows):
        folder = _folder(row)
        path = _INBOX if folder.id == inbox else f"{prefix}{folder.name}"
        yield path, folder
        if folder.children and depth < _DEEPEST and count < _MOST:
            yield from _walk(graph, folder, f"{path}/", depth + 1, inbox)


class FollowedLinks:
    """The links of one list, and whether what they lead to goes on for ever."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._links: set[str] = set()
        self._ids: set[str] = set()
        self._in_vain = 0

    def follow(self, link: str) -> None:
        """Raises TryAgain for one that was followed, or after too many pages with nothing new."""
        if link in self._links:
            raise TryAgain(f"{self._host} leads in a circle through the pages of a list.")
        if self._in_vain >= _MOST_IN_VAIN:
            raise TryAgain(
                f"{self._host} gives a list without an end: {self._in_vain} pages in a row held "
                "nothing new."
            )
        self._links.add(link)

    def gave(self, ids: Iterable[str]) -> None:
        """These were on the page."""
        before = len(self._ids)
        self._ids.update(ids)
        self._in_vain = 0 if len(self._ids) > before else self._in_vain + 1


def rows_of(graph: GraphHttp, page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of one answer of a list. Raises SessionLost where it has none: an empty list has an
    empty `value`, and who took nothing for that would believe that there are no mails."""
    rows = page.get("value")
    if not isinstance(rows, list):
        raise SessionLost(f"{graph.host} answered a list without its rows.")
    return [row for row in rows if isinstance(row, Mapping)]


def pages(
    graph: GraphHttp, path: str, query: Mapping[str, str], *, prefer: tuple[str, ...] = ()
) -> Iterator[Mapping[str, Any]]:
    """Every row of a collection, following @odata.nextLink as it is given.

    Raises TryAgain where the links lead in a circle or do not end.
    """
    link, followed = graph.url(path, query), FollowedLinks(graph.host)
    while link:
        followed.follow(link)
        page = graph.get(link, prefer=prefer)
        rows = rows_of(graph, page)
        followed.gave(str(row.get("id")) for row in rows)
        yield from rows
        following = str(page.get("@odata.nextLink") or "")
        link = graph.url(following) if following else ""


def _children_of(graph: GraphHttp, parent: GraphFolder | None) -> str:
    root = f"{graph.user}/mailFolders"
    return f"{root}/{parent.id}/childFolders" if parent else root


def _folder(row: Mapping[str, Any]) -> GraphFolder:
    return GraphFolder(
        id=str(row["id"]),
        name=str(row.get("displayName") or ""),
        children=int(row.get("childFolderCount") or 0),
        total=int(row.get("totalItemCount") or 0),
        unread=int(row.get("unreadItemCount") or 0),
    )
