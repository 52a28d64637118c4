"""Every way to a handler behind one face: a program with the SDK, HTTP, NATS, Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from pathlib import Path

from tests.integration.forwarding.conftest import Rig, ids_of
from tests.rig.forkserver import ROOT
from tests.rig.repeating_proxy import DoublingProxy, Frame, http_answer, kafka_answer, nats_answer
from tests.rig.stack import SIGNING_KEY
from tests.servers.kafka import TansuBroker
from tests.servers.nats import NatsServer
from tests.servers.webhooks import Received, Receiver


class Way(ABC):
    """One handler and its endpoint. `steps`: where what passes events on can be killed."""

    steps: tuple[str, ...] = ("taken", "answered")

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.handler = 0

    @abstractmethod
    def start(self, die_at: str = "") -> subprocess.Popen[bytes] | object:
        """Starts what passes events on; `die_at` one of `steps`, at the fifth event."""

    @abstractmethod
    def received(self) -> list[str]:
        """The ids of what came, in order, repeats too."""

    @abstractmethod
    def forget(self) -> None:
        """The endpoint loses all it had."""

    @abstractmethod
    def close(self) -> None:
        """Ends what was started."""


class ByQueue(Way):
    """A program that consumes its queue."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        super().__init__(rig)
        self._file = folder / "ids"
        self._file.touch()
        self._programs: list[subprocess.Popen[bytes]] = []
        self.handler = rig.stack.add_handler("program")
        rig.names[self.handler] = "program"
        rig.output.ensure("program", "g")

    def start(self, die_at: str = "") -> subprocess.Popen[bytes]:
        url = self.rig.stack.output_url
        if url.startswith("amqp"):
            url += "?heartbeat=2"  # how soon RabbitMQ believes that a program stands still
        command = [sys.executable, "-m", "tests.rig.consumer_program", url]
        program = subprocess.Popen(
            [*command, "program", str(self._file), *([die_at] if die_at else [])],
            cwd=ROOT,
            env={**os.environ, "POSTHOUSE_SIGNING_KEY": SIGNING_KEY},
        )
        self._programs.append(program)
        return program

    def received(self) -> list[str]:
        return self._file.read_text().split()

    def forget(self) -> None:
        with self._file.open("w"):  # the programs append to it
            pass

    def close(self) -> None:
        for program in self._programs:
            program.send_signal(signal.SIGCONT)
            program.terminate()
            program.wait(30)


class Forwarded(Way):
    """What the forwarder passes on."""

    steps = ("taken", "answered", "counted")
    #: How answers of the endpoint are told apart.
    frame: Frame

    def __init__(self, rig: Rig, *, twice: bool = False) -> None:
        """`twice`: the endpoint says every answer twice."""
        super().__init__(rig)
        self.proxy = DoublingProxy(type(self).frame) if twice else None

    def reached(self, port: int) -> int:
        """The port at which the forwarder finds an endpoint that is at `port`."""
        if self.proxy is None:
            return port
        self.proxy.target = port
        return self.proxy.port

    def start(self, die_at: str = "") -> object:
        at = f"{die_at}:{1 if die_at == 'counted' else 5}" if die_at else ""
        (started,) = self.rig.stack.start("forwarder", die_at=at)
        return started

    @abstractmethod
    def down(self) -> None:
        """The endpoint takes nothing."""

    @abstractmethod
    def up(self) -> None:
        """It is as it was before."""

    @abstractmethod
    def stall(self) -> None:
        """It takes what comes, and answers after the sender has given up; until `up`."""


class ByHttp(Forwarded):
    frame = staticmethod(http_answer)

    def __init__(self, rig: Rig, *, twice: bool = False) -> None:
        super().__init__(rig, twice=twice)
        self._receiver = Receiver()
        self._receiver.__enter__()
        self._goes = threading.Event()
        self.handler, _ = rig.add(
            f"http://127.0.0.1:{self.reached(self._receiver.port)}/hook",
            concurrency=2,
            timeout_seconds=1,
        )

    def received(self) -> list[str]:
        return ids_of(self._receiver.received)

    def down(self) -> None:
        def refuse(request: Received) -> tuple[int, dict[str, str], bytes]:
            self._receiver.received.remove(request)
            return 503, {}, b""

        self._receiver.decide = refuse

    def up(self) -> None:
        self._receiver.decide = None
        self._goes.set()

    def stall(self) -> None:
        def wait(_request: Received) -> tuple[int, dict[str, str], bytes]:
            self._goes.wait(60)
            return 200, {}, b""

        self._receiver.decide = wait

    def forget(self) -> None:
        self._receiver.received.clear()

    def close(self) -> None:
        self.up()
        self._receiver.__exit__()


class ByNats(Forwarded):
    frame = staticmethod(nats_answer)

    def __init__(self, rig: Rig, *, twice: bool = False) -> None:
        super().__init__(rig, twice=twice)
        self._server = NatsServer()
        self._server.start()
        self._server.add_stream("MAIL", "mail.>")
        options = {"subject": "mail.way", "concurrency": 2, "timeout_seconds": 1}
        self.handler, _ = rig.add(f"nats://127.0.0.1:{self.reached(self._server.port)}", **options)

    def received(self) -> list[str]:
        return [json.loads(one.data)["id"] for one in self._server.messages("MAIL")]

    def down(self) -> None:
        self._server.kill()

    def up(self) -> None:
        if self._server.process.running:
            self._server.process.resume()
        else:
            self._server.start()

    def stall(self) -> None:
        self._server.process.pause()

    def forget(self) -> None:
        self._server.wipe()
        self._server.add_stream("MAIL", "mail.>")

    def close(self) -> None:
        self._server.close()


class ByKafka(Forwarded):
    frame = staticmethod(kafka_answer)

    def __init__(self, rig: Rig, *, twice: bool = False) -> None:
        super().__init__(rig, twice=twice)
        self._broker = TansuBroker()
        port = self.reached(self._broker.port)
        self._broker.advertise(port)
        self._broker.start()
        options = {"topic": "mail", "concurrency": 2, "timeout_seconds": 2}
        self.handler, _ = rig.add(f"kafka://127.0.0.1:{port}", **options)

    def received(self) -> list[str]:
        return [json.loads(one.value)["id"] for one in self._broker.messages("mail")]

    def down(self) -> None:
        self._broker.process.pause()  # it keeps what it has in memory alone

    def up(self) -> None:
        self._broker.process.resume()

    def stall(self) -> None:
        self._broker.process.pause()

    def forget(self) -> None:
        self._broker.kill()
        self._broker.start()

    def close(self) -> None:
        self._broker.__exit__()
