"""What an administrator sees of a running stack: its pages, its alerts and its metrics."""

from __future__ import annotations

import re

import httpx

from tests.rig.stack import ADMIN_TOKEN, Stack
from tests.servers.processes import free_port


class Telling:
    """Starts admin, scheduler, fetcher and decryptor of a stack, and reads what they tell."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._port = free_port()
        self._health = {name: free_port() for name in ("scheduler", "fetcher")}
        stack.start("admin", settings={"port": str(self._port)})
        for name, port in self._health.items():
            stack.start(name, settings={"health_port": str(port)})
        stack.start("decryptor")
        self._person = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=30)

    def log_in(self) -> None:
        """As a person in a browser does, once the pages answer."""
        self._stack.wait(lambda: self._tried().status_code == 303, "somebody can log in")

    def _tried(self) -> httpx.Response:
        try:
            page = self._person.get("/login")
            field = re.search(r'name="csrf" value="([^"]+)"', page.text)
            if field is None:
                return page
            form = {"csrf": field[1], "way": "token", "token": ADMIN_TOKEN}
            return self._person.post("/login", data=form)
        except httpx.TransportError:
            return httpx.Response(503)

    def page(self, path: str) -> str:
        """The text of a page, without its marks; the white space is one space each."""
        answer = self._person.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        text = re.sub(r"<[^>]+>", " ", answer.text)
        for mark, sign in (("&#39;", "'"), ("&#34;", '"'), ("&quot;", '"'), ("&amp;", "&")):
            text = text.replace(mark, sign)
        return " ".join(text.split())

    def alerts(self) -> list[tuple[str, str]]:
        """Kind and reason of all that were raised."""
        asked = "SELECT kind, coalesce(data ->> 'message', data ->> 'reason', '') FROM alert"
        return [(kind, reason) for kind, reason in self._stack.query(asked)]

    def metric(self, service: str, series: str) -> float | None:
        """The value of a series by its whole name, labels included; None where there is none."""
        text = httpx.get(f"http://127.0.0.1:{self._health[service]}/metrics", timeout=20).text
        for line in text.splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        return None

    def close(self) -> None:
        self._person.close()
