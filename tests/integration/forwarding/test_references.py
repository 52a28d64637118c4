"""A mail that is too large for the endpoint comes by reference, and what was delivered opens it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from typing import Any

import httpx
import pytest

from shared.forwarding.signed_links import VALID_S, signed
from shared.storage import forwards
from shared.vault import forward_path
from tests.rig.stack import ADMIN_TOKEN, Stack
from tests.servers.dovecot import Dovecot
from tests.servers.kafka import TansuBroker
from tests.servers.nats import NatsServer
from tests.servers.processes import free_port
from tests.servers.webhooks import Receiver

ATTACHED = bytes(range(256)) * 160
WAYS = ("http", "nats", "kafka")


def large_mail() -> bytes:
    made = EmailMessage()
    made["From"] = "Kunde <kunde@example.org>"
    made["To"] = "team@example.com"
    made["Subject"] = "With a large file"
    made["Message-ID"] = f"<{uuid.uuid4().hex}@example.org>"
    made["Date"] = "Mon, 01 Jun 2026 10:00:00 +0000"
    made.set_content("See the file.\n")
    made.add_attachment(ATTACHED, maintype="application", subtype="pdf", filename="Größe.pdf")
    return made.as_bytes().replace(b"\n", b"\r\n")


@dataclass
class FarSides:
    """An endpoint, a NATS server and a Kafka broker, and the API that addresses lead to."""

    stack: Stack
    api: httpx.Client
    receiver: Receiver
    nats: NatsServer
    kafka: TansuBroker
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, way: str, links: str) -> None:
        """A handler `way-links`, as an administrator makes it."""
        name = f"{way}-{links}"
        to = {
            "http": {"address": f"http://127.0.0.1:{self.receiver.port}/{name}"},
            "nats": {"address": self.nats.url, "subject": f"mail.{name}"},
            "kafka": {"address": self.kafka.url, "topic": name},
        }[way]
        if way == "kafka":
            self.kafka.add_topic(name)
        forward = {**to, "links": links, "max_bytes": 8192}
        answer = self.api.post("handlers", json={"name": name, "forward": forward})
        assert answer.status_code == 201, answer.text
        self.made[name] = answer.json()

    def bodies(self, name: str) -> list[bytes]:
        if name.startswith("http"):
            return [one.body for one in self.receiver.received if one.path == f"/{name}"]
        if name.startswith("nats"):
            return [one.data for one in self.nats.messages("MAIL") if one.subject.endswith(name)]
        return [one.value for one in self.kafka.messages(name)]

    def both_at(self, name: str) -> bool:
        return len(self.bodies(name)) == 2

    def expired(self, name: str, url: str) -> str:
        """`url` as it was signed a day and a second ago."""
        handler_id = self.made[name]["id"]
        with self.stack.database.transaction() as session:
            sealed = forwards.link_key(session, handler_id)
        assert sealed is not None
        key = self.stack.vault.open(sealed, forward_path("link_key", handler_id))
        mail = url.split("/messages/")[1].split("/")[0]
        return signed(url.partition("?")[0], key, handler_id, mail, time.time() - VALID_S - 1)


@pytest.fixture
def far_sides(
    redis_url: str, receiver: Receiver, build_stack: Callable[..., Stack]
) -> Iterator[FarSides]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stack = build_stack(redis_url, port=str(port), public_url=url, forward_check_seconds="0.2")
    with ExitStack() as opened:
        nats, kafka = opened.enter_context(NatsServer()), opened.enter_context(TansuBroker())
        nats.add_stream("MAIL", "mail.>")
        bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        api = opened.enter_context(
            httpx.Client(base_url=f"{url}/api/v1/", headers=bearer, timeout=30)
        )
        stack.start("admin")
        stack.wait(lambda: _answers(f"{url}/login"), "the API answers")
        yield FarSides(stack, api, receiver, nats, kafka)
        stack.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def fetched(url: str, token: str = "") -> tuple[int, bytes]:
    answer = httpx.get(
        url, headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=30
    )
    return answer.status_code, answer.content


@pytest.mark.promise("D1")
def test_what_was_delivered_opens_raw_and_parts(
    far_sides: FarSides, dovecot: Dovecot, mail_user: str
) -> None:
    stack = far_sides.stack
    connection = stack.watch(dovecot, mail_user)
    for way in WAYS:
        for links in ("token", "signed"):
            far_sides.add(way, links)
    other = far_sides.api.post("handlers", json={"name": "other", "connections": []}).json()
    stack.start("scheduler", "fetcher", "decryptor", "forwarder")
    sent = [large_mail(), large_mail()]
    dovecot.deliver(mail_user, sent)
    stack.run_once(connection)
    stack.wait_settled(2, 120)
    for name in far_sides.made:
        stack.wait(partial(far_sides.both_at, name), f"both at {name}", 120)

    for name, handler in far_sides.made.items():
        events = [json.loads(body) for body in far_sides.bodies(name)]
        urls = [event["data"]["raw"]["url"] for event in events]
        (path,) = [
            part["path"]
            for part in events[0]["data"]["mail"]["parts"]
            if part["content_type"] == "application/pdf"
        ]
        parts = [url.replace("/raw", f"/parts/{path}") for url in urls]
        own = handler["token"] if name.endswith("token") else ""
        assert all("inline" not in event["data"]["raw"] for event in events)
        opened = [fetched(url, own) for url in urls]
        assert sorted(opened) == sorted((200, mail) for mail in sent), name
        assert [fetched(url, own) for url in parts] == [(200, ATTACHED)] * 2, name
        if own:
            refused = {fetched(url, other["token"])[0] for url in (*urls, *parts)}
            assert refused <= {403, 404}, name
            assert {fetched(url)[0] for url in (*urls, *parts)} == {401}, name
        else:
            neighbour = far_sides.made[f"{WAYS[WAYS.index(name[:-7]) - 1]}-signed"]["id"]
            for url in (urls[0], parts[0]):
                for changed in (
                    far_sides.expired(name, url),
                    url.replace("expires=", "expires=9"),
                    url.replace(f"handler={handler['id']}", f"handler={neighbour}"),
                    url.replace(events[0]["id"], events[1]["id"]),
                    url[:-1] + ("0" if url[-1] != "0" else "1"),
                    url.partition("?")[0],
                ):
                    assert fetched(changed)[0] == 401, (name, changed)
