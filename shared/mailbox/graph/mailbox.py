"""A mailbox in Exchange Online, read through Microsoft Graph.

One HTTPS client that speaks the documented REST API; the pieces are the other modules of this
package. The key of a mail is its immutable id, which stays when the mail is moved inside its
mailbox.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from shared.connections import AfterDownload, Connection, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import (
    Capabilities,
    Cursor,
    Folder,
    FolderStatus,
    Known,
    Listing,
    MailRef,
    Sink,
)
from shared.mailbox.errors import server_answers
from shared.mailbox.failures import StepFailed
from shared.mailbox.graph import batch as graph_batch
from shared.mailbox.graph import download as graph_download
from shared.mailbox.graph import folders as graph_folders
from shared.mailbox.graph import listing as graph_listing
from shared.mailbox.graph.folders import GraphFolder
from shared.mailbox.graph.http import GraphError, GraphHttp
from shared.messages import Key
from shared.microsoft_clouds import offers_permanent_delete

#: Seconds after which a folder is looked for by its path once more. Its id is constant: who deletes
#: it moves it to the deleted items, where it is found by its id for ever and gets no mail, and who
#: makes it anew makes another one.
FOLDER_S: Final = 600.0
_READ: Final = {"method": "PATCH", "body": {"isRead": True}}
_DELETE: Final = {"method": "DELETE"}
#: An action without parameters takes an empty body ("message: permanentDelete").
_PURGE: Final = {"method": "POST", "suffix": "/permanentDelete", "body": {}}


class GraphMailbox:
    """A session in the sense of `Mailbox`; Graph itself keeps none, requests stand alone."""

    def __init__(self, graph: GraphHttp, connection: Connection) -> None:
        self._graph = graph
        self._connection = connection
        self._folder: GraphFolder | None = None
        self._name = ""
        self._found_at = 0.0
        self._given = graph_download.Given()
        self._closed = False

    # ---- what the server is

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(read_flag=True, folders=True, names=("v1.0", "ImmutableId", "$batch"))

    @property
    def server(self) -> str:
        return f"Microsoft Graph at {self._graph.host}"

    @property
    def transcript(self) -> Sequence[str]:
        return self._graph.transcript.lines

    @property
    def graph(self) -> GraphHttp:
        """The requests underneath, for the doctor alone."""
        return self._graph

    @property
    def folder(self) -> GraphFolder:
        """The open folder, for the doctor alone."""
        return self._opened()

    def log_in(self) -> None:
        """One request that shows whether we may read this mailbox."""
        with self._step("authorisation"):
            self._graph.get(f"{self._graph.user}/mailFolders/inbox", {"$select": "id"})

    # ---- looking

    def folders(self) -> list[Folder]:
        with self._step("list"):
            return graph_folders.every(self._graph)

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        with self._step("folder"):
            found = self._kept(folder)
            usable = (
                cursor is not None
                and cursor.get("folder") == found.id
                and cursor.get("kind") == self._connection.selection
            )
            if cursor is not None and usable and not self._has_changed(found, cursor):
                return None
            return self._status(self._fresh(folder))

    def _has_changed(self, folder: GraphFolder, cursor: Cursor) -> bool:
        """One request where nothing happened. Counts alone are not believed: they are of all item
        types, and late at times."""
        if cursor["kind"] == Selection.ALL:
            return graph_listing.delta_has_changes(self._graph, cursor)
        if not graph_listing.has_unread(self._graph, folder):
            return False
        # Unread mails that are not ours to take stay unread: has any mail been touched?
        now = graph_folders.again(self._graph, folder.id)
        if (cursor.get("total"), cursor.get("unread")) != (now.total, now.unread):
            return True
        return graph_listing.newest_change(self._graph, folder) != cursor.get("newest")

    def open(self, folder: str) -> FolderStatus:
        with self._step("folder"):
            return self._status(self._fresh(folder))

    def list_new(
        self,
        known: Known,
        selection: Selection,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: Cursor | None = None,
        count_known: bool = False,
    ) -> Listing:
        with self._step("list"):
            folder = self._opened()
            if selection is Selection.UNREAD:
                # Asked before the list, as the counts are: what comes in between shows as a change.
                asks = folder.unread > 0 and limit != 0
                newest = graph_listing.newest_change(self._graph, folder) if asks else None
                listing = graph_listing.list_unread(
                    self._graph, folder, known, since=since, limit=limit
                )
                if listing.complete and folder.unread:
                    if newest is None:
                        newest = graph_listing.newest_change(self._graph, folder)
                    listing = replace(listing, cursor=graph_listing.unread_cursor(folder, newest))
            else:
                listing = graph_listing.list_all(
                    self._graph,
                    folder,
                    known,
                    since=since,
                    limit=limit,
                    cursor=self._delta_from(cursor, folder),
                )
            return replace(listing, known=known.count()) if count_known else listing

    def cursor_after(
        self, cursor: Cursor, settled: Sequence[MailRef], action: AfterDownload
    ) -> Cursor:
        if cursor.get("kind") == Selection.ALL:
            return cursor  # a delta of what was created does not see what we do
        after = dict(cursor)
        unread = sum(ref.seen is False for ref in settled)
        after["unread"] = max(0, int(after.get("unread") or 0) - unread)
        if action is AfterDownload.DELETE:
            after["total"] = max(0, int(after.get("total") or 0) - len(settled))
        return after

    def keys(self) -> Sequence[Key]:
        with self._step("list"):
            return self._ids()

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        with self._step("download"):
            yield from graph_download.headers(self._graph, refs)

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        with self._step("download"):
            graph_download.download(self._graph, refs, sink, limit, self._given)

    # ---- settling

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        with self._step("settle"):
            request: dict[str, Any] = dict(_READ)
            if action is AfterDownload.DELETE:
                request = dict(_PURGE if self._purges else _DELETE)
            return graph_batch.settle(self._graph, refs, request)

    @property
    def _purges(self) -> bool:
        """Permanent deletion where the connection asks for it and the cloud has it."""
        return self._connection.permanent_delete and offers_permanent_delete(self._graph.host)

    # ---- the session

    def leave(self) -> None:
        """Everything is written at once."""

    def is_alive(self) -> bool:
        if self._closed:
            return False
        try:
            self.log_in()
        except PosthouseError:
            return False
        return True

    def close(self) -> None:
        self._closed = True
        self._graph.close()

    @contextmanager
    def _step(self, step: str) -> Iterator[None]:
        try:
            yield
        except GraphError as failure:
            error = failure.error(_DOING[step])
            if step == "authorisation" and failure.status in _OF_THE_MAILBOX:
                error.step = "login"  # the token was had, and Graph took it
            raise self._at(_understood(error, step), step) from failure
        except StepFailed as error:
            understood = _understood(error, step)
            self._at(understood, step)
            if understood is error:
                raise
            raise understood from error
        except PosthouseError as error:
            self._at(error, step)
            raise

    def _at(self, error: PosthouseError, step: str) -> PosthouseError:
        if isinstance(error, StepFailed):
            if error.code in ("throttled", "graph-unavailable", "graph-refused", "mailbox-busy"):
                error.step = step
            error.step = error.step or step
        error.transcript = error.transcript or self._graph.transcript.lines
        return error

    def _kept(self, folder: str) -> GraphFolder:
        """The folder by its path the first time, and every so often; in between by its id."""
        if not self._is_found(folder):
            self._folder = graph_folders.find(self._graph, folder)
            self._name, self._found_at = folder, time.monotonic()
        assert self._folder is not None
        return self._folder

    def _is_found(self, folder: str) -> bool:
        recent = time.monotonic() - self._found_at < FOLDER_S
        return self._folder is not None and self._name == folder and recent

    def _fresh(self, folder: str) -> GraphFolder:
        """The same with its counts as they are now."""
        if self._folder is not None and self._is_found(folder):
            try:
                self._folder = graph_folders.again(self._graph, self._folder.id)
                return self._folder
            except GraphError as failure:
                if failure.status != 404:
                    raise
                self._folder = None
        return self._kept(folder)

    def _opened(self) -> GraphFolder:
        if self._folder is None:
            raise AssertionError("open a folder first")
        return self._folder

    def _ids(self) -> list[str]:
        return graph_listing.all_keys(self._graph, self._opened())

    def _delta_from(self, cursor: Cursor | None, folder: GraphFolder) -> Cursor | None:
        return cursor if cursor is not None and cursor.get("folder") == folder.id else None

    def _status(self, folder: GraphFolder) -> FolderStatus:
        return FolderStatus(
            folder=self._name,
            total=folder.total,
            unread=folder.unread,
            uid_validity=None,
            cursor=graph_listing.unread_cursor(folder, None),
        )


def _understood(error: StepFailed, step: str) -> StepFailed:
    """Past the login this account has worked, a moment ago."""
    return error if step == "authorisation" else server_answers.of_account_that_worked(error)


#: Answers that are not about the token: this mailbox is not open to it, or there is none.
_OF_THE_MAILBOX: Final = frozenset({403, 404})
_DOING: Final = {
    "authorisation": "opening the mailbox",
    "folder": "looking for the folder",
    "list": "listing the folder",
    "download": "downloading mails",
    "settle": "settling mails",
}
