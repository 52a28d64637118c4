"""Opens the store that an address names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.errors import InvalidInput
from shared.settings import StoreSettings
from shared.store.base import Store
from shared.store.files import FileStore
from shared.store.objects import ObjectStore


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
