"""Buckets elsewhere than at AWS, with keys from files or by workload identity."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.scheduler.retention import housekeeping
from shared.errors import InvalidInput, TryAgain
from shared.messages import RawRef
from shared.settings import StoreSettings, load
from shared.storage.pool import Database
from shared.store import MissingObject, ObjectStore
from shared.store.open import open_store
from shared.store_identity import OwnStore
from shared.telemetry import metrics
from tests.integration.queueing.conftest import eventually
from tests.integration.rows import add_connection, add_message, keep
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.s3 import S3Server

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def settings(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    """As pods get them: keys as files that a Secret is mounted as."""
    return from_files(s3_server, tmp_path, monkeypatch)


def from_files(
    server: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch, **others: str
) -> StoreSettings:
    prefix = store_prefix(folder)
    for name, value in {"access_key": server.access_key, "secret_key": server.secret_key}.items():
        path = folder / name
        path.write_text(value + "\n")
        monkeypatch.setenv(f"POSTHOUSE_STORE_{name.upper()}_FILE", str(path))
    given = {"store_url": f"s3://mail/{prefix}/one", "store_endpoint": server.endpoint, **others}
    if server.ca_file:
        given["store_ca_file"] = server.ca_file
    for name, text in given.items():
        monkeypatch.setenv(f"POSTHOUSE_{name.upper()}", text)
    return load(StoreSettings)


def store_prefix(folder: Path) -> str:
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


def asked(act: Callable[[], object]) -> dict[str, int]:
    """The requests that `act` made, as Prometheus would see them."""

    def now() -> dict[str, int]:
        return {
            sample.labels["operation"]: int(sample.value)
            for found in metrics.STORE_REQUESTS.collect()
            for sample in found.samples
        }

    before = now()
    act()
    return {name: n - before.get(name, 0) for name, n in now().items() if n != before.get(name, 0)}


def test_what_is_written_is_read_under_the_prefix(
    settings: StoreSettings, s3_server: S3Server
) -> None:
    store = open_store(settings)
    large = bytes(range(256)) * (48 << 10)  # 12 MiB: sent in parts
    small, big = keep(store, [b"a mail", large], NOW)
    assert store.read(small) == b"a mail"
    assert hashlib.sha256(b"".join(store.stream(big))).digest() == hashlib.sha256(large).digest()
    prefix = settings.store_url.removeprefix("s3://mail/")
    assert [key for key in s3_server.stored() if key.startswith(prefix)] == [
        f"{prefix}/{small.key}"
    ]
    store.delete(small.key)
    store.delete(small.key)
    with pytest.raises(MissingObject):
        store.read(small)


@pytest.mark.promise("I1")
def test_what_was_never_more_than_buffered_is_in_the_bucket(settings: StoreSettings) -> None:
    """Most batches are smaller than what a file holds back."""
    store = open_store(settings)
    (mail,) = keep(store, [b"a mail"], NOW)
    assert store.read(mail) == b"a mail"


def test_housekeeping_lists_days_that_have_aged_out_and_no_other(
    database: Database, settings: StoreSettings
) -> None:
    """Its cost does not grow with the mails that are kept, and shows in the metrics."""
    store = open_store(settings)
    with database.transaction() as session:
        connection = add_connection(session)
    housekeeping(database, store, NOW - 40 * DAY, 30)
    old = [keep(store, [b"old"], NOW - 40 * DAY)[0] for _ in range(5)]
    kept = keep(store, [b"unpublished"], NOW - 40 * DAY)[0]
    with database.transaction() as session:
        add_message(session, connection, NOW - 40 * DAY, ref=kept, published=False)
    new = [keep(store, [b"new"], NOW - back * DAY)[0] for back in range(20) for _ in range(3)]
    for back in range(39, -1, -1):
        housekeeping(database, store, NOW - back * DAY, 30)
    assert [store.read(ref) for ref in new] == [b"new"] * 60
    assert store.read(kept) == b"unpublished"
    for ref in old:
        with pytest.raises(MissingObject):
            store.read(ref)
    cost = asked(lambda: housekeeping(database, store, NOW, 30))
    # The years, the months of each, and the day on which the unpublished mail lies.
    assert cost.pop("list") <= 8
    assert cost == {}


def test_many_objects_go_in_one_request(settings: StoreSettings) -> None:
    store = open_store(settings)
    day = f"raw/{NOW - 50 * DAY:%Y/%m/%d}"
    keys = [keep(store, [b"m"], NOW - 50 * DAY)[0].key for _ in range(30)]
    assert store.days(f"raw/{NOW:%Y/%m/%d}") == [day]
    assert [sorted(page) for page in store.keys_of(day)] == [sorted(keys)]
    assert asked(lambda: store.delete_all([*keys, f"{day}/gone"]))["delete"] == 1
    assert list(store.keys_of(day)) == []


def test_readiness_lists_nothing(database: Database, settings: StoreSettings) -> None:
    store = OwnStore(database, open_store(settings))
    store.check()
    assert asked(store.check) == {"get": 1}


def test_a_bucket_that_takes_no_objects_is_told_until_it_does(
    seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an administrator: the check `store` of a fetcher. The marker can be read meanwhile."""
    store = open_store(from_files(seaweedfs, tmp_path, monkeypatch))
    prefix = store_prefix(tmp_path)
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject"}
    denied["Resource"] = f"arn:aws:s3:::mail/{prefix}/*"
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    client: Any = seaweedfs.client()
    assert asked(store.check) == {}

    def refusal(act: Callable[[], object]) -> str:
        try:
            act()
        except TryAgain as error:
            return str(error)
        return ""

    client.put_bucket_policy(Bucket="mail", Policy=policy)
    eventually(lambda: refusal(lambda: keep(store, [b"a mail"], NOW)))
    for _ in range(2):
        assert "refuses its keys or this right (put)" in refusal(store.check)
    client.delete_bucket_policy(Bucket="mail")
    eventually(lambda: not refusal(store.check))
    assert asked(store.check) == {}
    assert f"{prefix}/posthouse-check" not in seaweedfs.stored()


def test_a_store_that_is_away_says_so_soon_and_without_secrets(
    moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workload identity sends its token in the address of the request."""
    token = tmp_path / "token"
    token.write_text("a-token-that-nobody-may-see")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/posthouse")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://127.0.0.1:1")
    store = ObjectStore(at_moto(moto, store_url="s3://mail"))
    with pytest.raises(TryAgain) as found:
        store.marker()
    assert "a-token" not in str(found.value)
    assert len(str(found.value)) < 400


def test_workload_identity_opens_the_bucket(
    seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key in any Secret: an agent on the node gives one for a token (EKS Pod Identity)."""
    token = tmp_path / "token"
    token.write_text("the.pods.token")
    answer = {
        "AccessKeyId": seaweedfs.access_key,
        "SecretAccessKey": seaweedfs.secret_key,
        "Token": "",
        "Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }
    tokens: list[str | None] = []

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as agent:
        threading.Thread(target=agent.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{agent.server_address[1]}/v1/credentials"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        store = open_store(
            load(StoreSettings, store_url="s3://mail/wi", store_endpoint=seaweedfs.endpoint)
        )
        (ref,) = keep(store, [b"a mail"], NOW)
        assert store.read(ref) == b"a mail"
        agent.shutdown()
    assert set(tokens) == {"the.pods.token"}


def test_a_wrong_key_is_told_with_what_to_do(
    seaweedfs: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = from_files(seaweedfs, tmp_path, monkeypatch)
    wrong = settings.model_copy(update={"store_secret_key": settings.store_access_key})
    with pytest.raises(TryAgain, match="refuses its keys or this right") as found:
        open_store(wrong).marker()
    assert "rights" in found.value.hint


def test_virtual_hosts_have_the_bucket_in_their_name(moto: S3Server) -> None:
    """A name that leads nowhere tells which host was asked."""
    store = open_store(
        at_moto(
            moto,
            store_url="s3://mail/vh",
            store_endpoint=f"https://store.invalid:{moto.port}",
            store_addressing="virtual",
            store_access_key=moto.access_key,
            store_secret_key=moto.secret_key,
        )
    )
    with pytest.raises(TryAgain, match=r"https://mail\.store\.invalid:\d+/vh/raw"):
        store.read(RawRef("raw/2026/01/01/0", 0, 1))


def at_moto(moto: S3Server, **fields: str) -> StoreSettings:
    given = {"store_endpoint": moto.endpoint, "store_ca": Path(moto.ca_file).read_text(), **fields}
    return load(StoreSettings, **given)


def test_every_mail_comes_through_a_bucket(
    s3_server: S3Server,
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """All services, each with the keys from its own files."""
    mails = [mail(number, 4000, seed=4) for number in range(60)]
    dovecot.deliver(mail_user, mails)
    stack = build_stack(
        redis_url,
        store_url=f"s3://mail/{mail_user}",
        store_endpoint=s3_server.endpoint,
        store_access_key=s3_server.access_key,
        store_secret_key=s3_server.secret_key,
        store_ca=Path(s3_server.ca_file).read_text() if s3_server.ca_file else "",
    )
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(len(mails))
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    assert any(key.startswith(f"{mail_user}/raw/") for key in s3_server.stored())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"store_url": "file:///tmp/x", "store_endpoint": "https://h"}, "ENDPOINT"),
        ({"store_url": "s3://b", "store_endpoint": "h:9000"}, "ENDPOINT"),
        ({"store_url": "s3://b", "store_access_key": "k"}, "go together"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        load(StoreSettings, **given)
