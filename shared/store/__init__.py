"""The store: raw mail by key, durable once `Pack.commit` has returned.

A *pack* is one object that holds the mails of one batch, one after the other; a mail is a range
of it (`RawRef`). A file store syncs the pack and its folder; the others take the bucket's word.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.errors import InvalidInput
from shared.settings import StoreSettings
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
    "open_store",
]


def open_store(settings: StoreSettings) -> Store:
    """`file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…`. Raises InvalidInput on others."""
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc or not path.is_absolute():
            raise InvalidInput("A file store is file:///absolute/path.", field="store_url")
        try:
            return FileStore(path)
        except OSError as error:
            raise InvalidInput(
                f"The store {path} cannot be used: {error.strerror}.", field="store_url"
            ) from error
    if parts.scheme in {"s3", "gs", "az"}:
        return ObjectStore(settings)
    raise InvalidInput(
        f"There is no store for {parts.scheme or settings.store_url!r}.",
        field="store_url",
        hint="Use file:///path, s3://bucket, gs://bucket or az://container.",
    )
