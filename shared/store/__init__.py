"""The store: raw mail by key, durable once `Pack.commit` has returned.

A *pack* is one object that holds the mails of one batch, one after the other; a mail is a range
of it (`RawRef`). A file store syncs the pack and its folder; the others take the bucket's word.
"""

from __future__ import annotations

from shared.store.base import MARKER, MissingObject, Pack, Store, StoreFull, new_key
from shared.store.files import FileStore
from shared.store.objects import ObjectStore

__all__ = [
    "MARKER",
    "FileStore",
    "MissingObject",
    "ObjectStore",
    "Pack",
    "Store",
    "StoreFull",
    "new_key",
]
