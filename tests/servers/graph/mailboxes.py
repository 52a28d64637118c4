"""What the fake Graph keeps: mailboxes with folders, mails, and a log of what happened to them."""

from __future__ import annotations

import base64
import email
import email.message
import email.utils
import itertools
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

_EPOCH = datetime(2026, 1, 1, 8, tzinfo=UTC)


@dataclass
class Attachment:
    name: str
    content: bytes
    media: str = "application/octet-stream"
    kind: str = "fileAttachment"  # or itemAttachment, referenceAttachment


@dataclass
class Item:
    """A mail. `mime` None: Exchange has no MIME form of it and says so with `mime_error`."""

    number: int
    folder: str
    mime: bytes | None
    read: bool
    received: datetime
    modified: datetime
    kind: str = "message"
    mime_error: tuple[int, str, str] = (
        400,
        "ErrorMimeContentConversionFailed",
        "Failed to convert the item to MIME.",
    )
    properties: Mapping[str, Any] = field(default_factory=dict)
    attachments: list[Attachment] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The immutable id."""
        return _token(f"immutable item {self.number}")

    @property
    def mutable_id(self) -> str:
        """What is given without `Prefer: IdType="ImmutableId"`: another one in each folder."""
        return _token(f"item {self.number} in {self.folder}")

    @cached_property
    def headers(self) -> email.message.Message:
        """The header block, parsed once."""
        block = re.split(rb"\r?\n\r?\n", self.mime or b"", maxsplit=1)[0]
        return email.message_from_bytes(block)

    @property
    def stored_size(self) -> int:
        """PidTagMessageSize: what Exchange stores, not the size of the MIME form."""
        return int(len(self.mime or b"") * 1.1) + 2000


@dataclass
class Folder:
    id: str
    name: str
    parent: str = ""
    hidden: bool = False


class GraphMailbox:
    """One user's mailbox. Change it only through these methods: delta reads the log."""

    def __init__(self, address: str, inbox: str = "Inbox") -> None:
        self.address = address
        self.lock = threading.RLock()
        self.folders: dict[str, Folder] = {}
        self.items: dict[str, Item] = {}
        self.log: list[tuple[str, str, str]] = []  # folder id, item id, created|updated|deleted
        self.delegates: set[str] = set()
        self._numbers = itertools.count(1)
        self._latest = _EPOCH
        self.inbox = self.create(inbox)
        self.deleted = self.create("Deleted Items")

    def create(self, path: str) -> str:
        """A folder by its path, with its parents; returns its id."""
        with self.lock:
            parent, here = "", ""
            for name in path.split("/"):
                here = f"{here}/{name}" if here else name
                found = self.folder_at(parent, name)
                if found is None:
                    found = Folder(_token(f"folder {self.address} {here}"), name, parent)
                    self.folders[found.id] = found
                parent = found.id
            return parent

    def folder_at(self, parent: str, name: str) -> Folder | None:
        return next(
            (f for f in self.folders.values() if f.parent == parent and f.name == name), None
        )

    def deliver(
        self,
        mails: Iterable[bytes | None],
        folder: str = "",
        *,
        read: bool = False,
        **changes: Any,
    ) -> list[Item]:
        """Mails arrive, a second apart."""
        made = []
        with self.lock:
            where = self.create(folder) if folder else self.inbox
            for mime in mails:
                number = next(self._numbers)
                moment = changes.get("received") or _EPOCH + timedelta(seconds=number)
                item = Item(
                    number,
                    where,
                    mime,
                    read,
                    moment,
                    moment,
                    **{k: v for k, v in changes.items() if k != "received"},
                )
                self.items[item.id] = item
                self._latest = max(self._latest, moment)
                self.log.append((where, item.id, "created"))
                made.append(item)
        return made

    def mark(self, item_id: str, read: bool) -> None:
        with self.lock:
            item = self.items[item_id]
            item.read = read
            self._touch(item)
            self.log.append((item.folder, item_id, "updated"))

    def move(self, item_id: str, folder_id: str) -> None:
        with self.lock:
            item = self.items[item_id]
            self.log.append((item.folder, item_id, "deleted"))
            item.folder = folder_id
            self._touch(item)
            self.log.append((folder_id, item_id, "created"))

    def remove(self, item_id: str) -> None:
        """Gone for good."""
        with self.lock:
            item = self.items.pop(item_id)
            self.log.append((item.folder, item_id, "deleted"))

    def in_folder(self, folder_id: str) -> list[Item]:
        with self.lock:
            return [item for item in self.items.values() if item.folder == folder_id]

    def find(self, item_id: str) -> Item | None:
        """By either of its ids."""
        with self.lock:
            if item_id in self.items:
                return self.items[item_id]
            return next((i for i in self.items.values() if i.mutable_id == item_id), None)

    def _touch(self, item: Item) -> None:
        self._latest = max(self._latest, item.modified) + timedelta(seconds=1)
        item.modified = self._latest


def folder_row(mailbox: GraphMailbox, folder: Folder) -> dict[str, Any]:
    """mailFolder as JSON."""
    items = mailbox.in_folder(folder.id)
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent or _token(f"root {mailbox.address}"),
        "childFolderCount": sum(f.parent == folder.id for f in mailbox.folders.values()),
        "totalItemCount": len(items),
        "unreadItemCount": sum(not item.read for item in items),
        "isHidden": folder.hidden,
    }


def sortable(item: Item) -> dict[str, Any]:
    """The properties that mails are filtered and sorted by."""
    return {
        "receivedDateTime": _time(item.received),
        "lastModifiedDateTime": _time(item.modified),
        "isRead": item.read,
    }


def item_row(item: Item) -> dict[str, Any]:
    """message as JSON."""
    parsed = item.headers
    row: dict[str, Any] = {
        **sortable(item),
        "sentDateTime": _time(item.received),
        "createdDateTime": _time(item.received),
        "parentFolderId": item.folder,
        "isDraft": False,
        "hasAttachments": bool(item.attachments),
        "importance": "normal",
        "subject": str(parsed.get("Subject", "")),
        "conversationId": _token(f"conversation {_root_of(parsed)}"),
        "categories": [],
        "internetMessageId": str(parsed.get("Message-ID", "")) or None,
        "from": _recipient(str(parsed.get("From", ""))),
        "toRecipients": [_recipient(str(to)) for to in parsed.get_all("To", [])],
        "ccRecipients": [],
        "replyTo": [],
        "body": {"contentType": "text", "content": ""},
        "internetMessageHeaders": [{"name": k, "value": str(v)} for k, v in parsed.items()],
        **item.properties,
    }
    return row


def _root_of(header: email.message.Message) -> str:
    """The message that a thread began with."""
    ids = " ".join(str(header.get(name, "")) for name in ("References", "Message-ID")).split()
    return ids[0] if ids else ""


def attachment_row(number: int, one: Attachment) -> dict[str, Any]:
    return {
        "@odata.type": f"#microsoft.graph.{one.kind}",
        "id": _token(f"attachment {number}"),
        "name": one.name,
        "contentType": one.media,
        "size": len(one.content),
        "isInline": False,
        "lastModifiedDateTime": _time(_EPOCH),
    }


def _recipient(text: str) -> dict[str, Any] | None:
    name, address = email.utils.parseaddr(text)
    return {"emailAddress": {"name": name or address, "address": address}} if address else None


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _token(text: str) -> str:
    """As Graph's ids look: URL-safe base64 with its padding."""
    return "AAk" + base64.urlsafe_b64encode(text.encode()).decode()
