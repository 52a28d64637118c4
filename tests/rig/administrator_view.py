"""What an administrator sees of a running stack: its pages, its alerts and its metrics."""

from __future__ import annotations

import re
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import httpx

from shared.alerts.raised import Template
from shared.storage import webhooks
from shared.vault import SecretPath
from tests.rig import alert_rules
from tests.rig.stack import ADMIN_TOKEN, Stack
from tests.servers.processes import free_port
from tests.servers.webhooks import Receiver


class Telling:
    """Starts `services` of a stack, and admin, and reads what they tell: as a person in a browser,
    as whoever the webhook calls, as Prometheus. Use as a context manager."""

    def __init__(
        self, stack: Stack, services: tuple[str, ...] = ("scheduler", "fetcher", "decryptor")
    ) -> None:
        self._stack = stack
        self._services = services
        self._health = {name: free_port() for name in services}
        self._receiver = Receiver()
        self._ended = ExitStack()

    def __enter__(self) -> Telling:
        port = free_port()
        with ExitStack() as unless_entered:
            unless_entered.enter_context(self._receiver)
            listen(self._stack, self._receiver)
            self._stack.start("admin", settings={"port": str(port)})
            for name in self._services:
                self.start(name)
            self._person = unless_entered.enter_context(
                httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
            )
            self._ended = unless_entered.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.close()

    def start(self, service: str) -> int:
        """One whose metrics are read from now on under its name; its port for them."""
        port = self._health.setdefault(service, free_port())
        self._stack.start(service, settings={"health_port": str(port)})
        return port

    def log_in(self) -> None:
        """As a person in a browser does, once the pages answer."""
        self._stack.wait(lambda: self._tried().status_code == 303, "somebody can log in")

    def _tried(self) -> httpx.Response:
        try:
            page = self._person.get("/login")
            form = {"csrf": _csrf(page), "way": "token", "token": ADMIN_TOKEN}
            return self._person.post("/login", data=form) if form["csrf"] else page
        except httpx.TransportError:
            return httpx.Response(503)

    def page(self, path: str) -> str:
        """The text of a page, without its marks; the white space is one space each."""
        answer = self._person.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        return _text(answer)

    def tested(self, connection: int) -> str:
        """What the page of a connection shows once somebody pressed *Test*."""
        page = self._person.get(f"/connections/{connection}")
        answer = self._person.post(
            f"/connections/{connection}/test", data={"csrf": _csrf(page)}, follow_redirects=True
        )
        assert answer.status_code == 200, answer.status_code
        return _text(answer)

    def hears(self, kind: str) -> list[str]:
        """What the webhook was told of this kind so far, a sentence each."""
        return [data["summary"] for data in heard(self._receiver, kind)]

    def alerts(self) -> list[str]:
        """The kinds of all alerts that were raised, told already or not."""
        return [kind for (kind,) in self._stack.query("SELECT kind FROM alert")]

    def metrics(self, service: str) -> str:
        return httpx.get(f"http://127.0.0.1:{self._health[service]}/metrics", timeout=20).text

    def metric(self, service: str, series: str) -> float | None:
        """The value of a series by its whole name, labels included; None where there is none."""
        for line in self.metrics(service).splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        return None

    def fires(self, rule: str, service: str) -> bool:
        """Whether Prometheus would raise this rule, did the service go on saying what it says."""
        return alert_rules.fires(rule, self.metrics(service), self._stack.folder)


def listen(stack: Stack, receiver: Receiver) -> None:
    """A webhook of the stack that leads to `receiver`."""

    def seal(column: str, row: int, text: str) -> bytes:
        return stack.vault.seal(text.encode(), SecretPath(webhooks.WEBHOOK_TABLE, column, str(row)))

    with stack.database.transaction() as session:
        webhooks.create_webhook(
            session,
            name="on call",
            url=receiver.url,
            secret="",
            template=Template.JSON,
            seal=seal,
        )


def told(stack: Stack, receiver: Receiver, kind: str) -> dict[str, Any]:
    """What the webhook was told of this kind, once it was."""
    stack.wait(lambda: bool(heard(receiver, kind)), f"the webhook hears of {kind}")
    (data,) = heard(receiver, kind)
    return data


def heard(receiver: Receiver, kind: str) -> list[dict[str, Any]]:
    """What the webhook was told of this kind so far."""
    return [one.json["data"] for one in receiver.received if f".{kind}." in one.json["type"]]


def _csrf(page: httpx.Response) -> str:
    field = re.search(r'name="csrf" value="([^"]+)"', page.text)
    return field[1] if field else ""


def _text(answer: httpx.Response) -> str:
    text = re.sub(r"<[^>]+>", " ", answer.text)
    for mark, sign in (("&#39;", "'"), ("&#34;", '"'), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(mark, sign)
    return " ".join(text.split())
