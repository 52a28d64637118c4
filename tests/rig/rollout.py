"""Replaces a stack's processes one by one while it works, as Kubernetes does with a new image.

`maxSurge: 1, maxUnavailable: 0` of deploy/k8s/base: a new replica is ready before an old one gets
SIGTERM, and nobody waits for the old one's end before the next one starts.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import httpx

from tests.rig.forkserver import Child
from tests.rig.stack import Stack
from tests.servers.processes import free_port

#: terminationGracePeriodSeconds of deploy/k8s/base; SIGKILL comes after it.
GRACE = {"scheduler": 45, "admin": 45, "fetcher": 120, "decryptor": 120, "forwarder": 90}


@dataclass(frozen=True, slots=True)
class Replica:
    child: Child
    #: Where the admin service answers; 0 for the others.
    port: int
    health_port: int

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (
                httpx.get(f"http://127.0.0.1:{self.health_port}/readyz", timeout=10).status_code
                == 200
            )
        return False


class Rollout:
    """`replicas` of each service; `restart(service)` replaces all of its replicas."""

    def __init__(self, stack: Stack, replicas: Mapping[str, int]) -> None:
        self.stack = stack
        self._turn = threading.Condition()
        self._asked: Counter[int] = Counter()
        self.running: dict[str, list[Replica]] = {
            service: [self._start(service) for _ in range(count)]
            for service, count in replicas.items()
        }
        for service in replicas:
            for replica in self.running[service]:
                self._await(service, replica)

    def restart(self, service: str) -> None:
        """Returns when the old replicas have ended; fails where one outlives its grace."""
        ending = []
        for old in tuple(self.running[service]):
            new = self._start(service)
            self._await(service, new)
            with self._turn:
                self.running[service] = [r for r in self.running[service] if r is not old] + [new]
                # Requests that were on their way to it have arrived before it is told to stop:
                # what the sleep of preStop in admin.yaml is for.
                assert self._turn.wait_for(partial(self._is_idle, old.port), 90)
            old.child.terminate()
            ending.append(old)
        for old in ending:
            try:
                old.child.wait(GRACE[service])
            except subprocess.TimeoutExpired:
                raise AssertionError(
                    f"a {service} did not end by SIGTERM\n{self.stack.tails()}"
                ) from None
            self.stack.processes.remove(old.child)

    @contextlib.contextmanager
    def api(self) -> Iterator[str]:
        """The address of an API that takes requests, as a Service chooses one; for the block."""
        with self._turn:
            port = self.running["admin"][0].port
            self._asked[port] += 1
        try:
            yield f"http://127.0.0.1:{port}/api/v1"
        finally:
            with self._turn:
                self._asked[port] -= 1
                self._turn.notify_all()

    def _is_idle(self, port: int) -> bool:
        return not self._asked[port]

    def _start(self, service: str) -> Replica:
        settings = {"health_port": str(free_port())}
        if service == "admin":
            settings["port"] = str(free_port())
        (child,) = self.stack.start(service, settings=settings)
        return Replica(child, int(settings.get("port", 0)), int(settings["health_port"]))

    def _await(self, service: str, replica: Replica) -> None:
        self.stack.wait(replica.is_ready, f"a new {service} is ready", 120)


class Caller(threading.Thread):
    """Somebody who uses the API all the while; `failures` tells what was not answered as asked."""

    def __init__(
        self,
        rollout: Rollout,
        connections: list[int],
        *,
        fetching: bool = True,
        pause: float = 0.1,
    ) -> None:
        super().__init__(daemon=True)
        self.failures: list[str] = []
        self.answered = 0
        self._rollout = rollout
        self._connections = connections
        self._fetching = fetching
        self._pause = pause
        self._stop_calling = threading.Event()

    def run(self) -> None:
        """Asks what is known of each connection in turn, after having it fetched (`fetching`)."""
        headers = {"Authorization": "Bearer test-token-of-20-characters"}
        number = 0
        while not self._stop_calling.wait(self._pause):
            path = f"/connections/{self._connections[number % len(self._connections)]}"
            number += 1
            try:
                with (
                    self._rollout.api() as api,
                    httpx.Client(base_url=api, headers=headers, timeout=60) as client,
                ):
                    answers = [client.post(f"{path}/fetch")] if self._fetching else []
                    answers.append(client.get(path))
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            self.failures += [answer.text for answer in answers if answer.is_error]
            self.answered += len(answers)

    def stop(self) -> None:
        self._stop_calling.set()
        self.join(60)
