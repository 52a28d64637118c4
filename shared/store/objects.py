"""The store in a bucket: S3 and what speaks its protocol, Google Cloud Storage, Azure."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, TypeVar
from urllib.parse import urlsplit

from shared.errors import OwnFailure
from shared.messages import RawRef
from shared.settings import StoreSettings
from shared.store.base import CHUNK, MARKER, PAGE, Pack, identity_in, missing_object, new_key
from shared.telemetry import metrics

T = TypeVar("T")

#: A store that is away shows within this many seconds; whoever asked tries again by itself.
_RETRY_SECONDS: Final = 10

#: What a store that refused an object is asked to take: at its quota it may take a few octets.
_PROBE: Final = "posthouse-check"
_PROBE_OCTETS: Final = 1 << 20


class ObjectStore:
    """Objects in a bucket, by obstore. Thread-safe.

    Keys and endpoint are those of the settings. Where there are none, they come from where the
    provider's own tools look: environment, workload identity, the instance's metadata.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._opened: Any = None
        #: Whether an object was last not taken.
        self._refuses = False

    @property
    def _bucket(self) -> Any:
        # Opened on first use: obstore's runtime does not survive a fork.
        if self._opened is None:
            from obstore.store import from_url

            self._opened = from_url(self._settings.store_url, **options_of(self._settings))
        return self._opened

    def pack(self) -> Pack:
        return Pack(self, _spool, new_key())

    def keep(self, file: IO[bytes], key: str) -> None:
        file.flush()
        with Path(file.name).open("rb") as spool:
            self._put(key, spool)

    def read(self, ref: RawRef) -> bytes:
        if not ref.size:
            return b""
        start, size = ref.offset, ref.size
        try:
            found = self._call(
                "get", lambda bucket: bucket.get_range(ref.key, start=start, length=size)
            )
        except FileNotFoundError as error:
            raise missing_object(ref.key) from error
        return bytes(found)

    def stream(self, ref: RawRef) -> Iterator[bytes]:
        for start in range(0, ref.size, CHUNK):
            size = min(CHUNK, ref.size - start)
            yield self.read(RawRef(ref.key, ref.offset + start, size))

    def delete(self, key: str) -> None:
        self.delete_all([key])

    def delete_all(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        try:
            self._call("delete", lambda bucket: bucket.delete(list(keys)))
        except FileNotFoundError:
            # Not every provider deletes many at once: the rest may still be there.
            for key in keys if len(keys) > 1 else ():
                self.delete(key)

    def days(self, before: str) -> list[str]:
        # The year, then the month, then the day: what begins after `before` is not asked for.
        prefixes = ["raw"]
        for _ in ("year", "month", "day"):
            prefixes = [
                found
                for prefix in prefixes
                for found in sorted(self._folders(prefix))
                if found <= before[: len(found)]
            ]
        return [day for day in prefixes if day < before]

    def keys_of(self, day: str) -> Iterator[list[str]]:
        pages = self._call("list", lambda bucket: bucket.list(prefix=f"{day}/", chunk_size=PAGE))
        while page := self._next(pages):
            yield sorted(str(item["path"]) for item in page)

    def sweep(self, before: datetime) -> int:
        """Nothing to do: spools are temporary files of the machine, parts expire in the bucket."""
        return 0

    def check(self) -> None:
        """Asks nothing beyond the marker where the last object was taken: requests cost, and many.
        Else whether one of the size of a batch is, and takes it away again."""
        if self._refuses:
            self._put(_PROBE, bytes(_PROBE_OCTETS))
            self.delete(_PROBE)

    def marker(self) -> uuid.UUID | None:
        try:
            return identity_in(self._call("get", lambda bucket: bytes(bucket.get(MARKER).bytes())))
        except FileNotFoundError:
            return None

    def mark(self, identity: uuid.UUID) -> None:
        self._call("put", lambda bucket: bucket.put(MARKER, str(identity).encode() + b"\n"))

    def is_empty(self) -> bool:
        pages = self._call("list", lambda bucket: bucket.list(prefix="raw/", chunk_size=1))
        return not self._next(pages)

    def space(self) -> tuple[int, int] | None:
        return None

    def _put(self, key: str, content: IO[bytes] | bytes) -> None:
        try:
            self._call("put", lambda bucket: bucket.put(key, content))
        except OwnFailure:
            self._refuses = True
            raise
        self._refuses = False

    def _folders(self, prefix: str) -> list[str]:
        found = self._call("list", lambda bucket: bucket.list_with_delimiter(f"{prefix}/"))
        return [str(one) for one in found["common_prefixes"]]

    def _next(self, pages: Any) -> Any:
        return self._call("list", lambda _: next(pages, None))

    def _call(self, operation: str, act: Callable[[Any], T]) -> T:
        """Raises FileNotFoundError where there is no such object, else OwnFailure."""
        metrics.STORE_REQUESTS.labels(operation).inc()
        try:
            return act(self._bucket)
        except FileNotFoundError:
            raise
        except Exception as error:  # obstore raises its own tree and OSError
            raise _translated(error, operation) from None


def _spool() -> IO[bytes]:
    return tempfile.NamedTemporaryFile(delete=False, buffering=CHUNK)


def options_of(settings: StoreSettings) -> dict[str, Any]:
    """The settings as obstore takes them."""
    parts = urlsplit(settings.store_url)
    if parts.scheme not in {"s3", "gs", "az"}:
        return {}  # obstore's store in memory
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=60),
    }
    if settings.store_ca:
        client["root_certificate"] = settings.store_ca
    options: dict[str, Any] = {
        "client_options": client,
        "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    }
    if settings.store_endpoint:
        endpoint = settings.store_endpoint.rstrip("/")
        client["allow_http"] = endpoint.startswith("http://")
        if settings.store_addressing == "virtual":
            scheme, _, host = endpoint.partition("://")
            endpoint = f"{scheme}://{parts.netloc}.{host}"
        options["endpoint"] = endpoint
    if settings.store_addressing == "virtual":
        options["virtual_hosted_style_request"] = True
    if settings.store_region:
        options["region"] = settings.store_region
    if settings.store_access_key and settings.store_secret_key:
        options["access_key_id"] = settings.store_access_key.get_secret_value()
        options["secret_access_key"] = settings.store_secret_key.get_secret_value()
    return options


def _translated(error: Exception, operation: str) -> OwnFailure:
    """obstore tells of a failure in a page, with addresses whose queries may hold a token."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = re.sub(r"\?[^\s)]*", "", lines[0]).rstrip(" :.")
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        return OwnFailure(
            f"The store refuses its keys or this right ({operation}): {text}.",
            hint="docs/operations.md lists the rights that are needed, under Store.",
        )
    took = "take an object" if operation == "put" else "answer"
    return OwnFailure(f"The store did not {took}: {text}.")
