"""Starts services of a stack in containers of the image, hardened as deploy/k8s hardens them.

`Containers` stands where `Forkserver` stands: `Stack(..., forkserver=Containers(...))`. The
containers share the host's network, where the servers of the tests listen, and nothing else.
"""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.rig.forkserver import Child

IMAGE = "posthouse:0.1.0"
#: Nobody in the image: any uid will do.
USER = "47110:47110"
HARDENED = (
    *("--rm", "--user", USER, "--read-only", "--tmpfs", "/tmp:mode=1777"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host"),
)


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300)


class Container(Child):
    """One service in a container; its `docker run` lives as long, and ends as it ends."""

    def __init__(self, run: subprocess.Popen[bytes], name: str, service: str) -> None:
        super().__init__(run.pid, service)
        self.name = name
        self.run = run

    def poll(self) -> int | None:
        return self.run.poll()

    def wait(self, timeout: float = 60) -> None:
        self.run.wait(timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            docker("kill", "--signal", signal.Signals(number).name, self.name)


class Containers:
    """`folders` are mounted where they are, and writable there for the services' user."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.started: list[Container] = []
        self._mounts: list[str] = []
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            self._mounts += ["--volume", f"{folder}:{folder}"]

    def fork(
        self,
        service: str,
        environment: Mapping[str, str],
        log: Path,
        *,
        die_at: str = "",
        stall_at: str = "",
    ) -> Container:
        assert not die_at + stall_at, "a container cannot be told where to die"
        name = f"posthouse-{service}-{uuid.uuid4().hex[:8]}"
        settings = [
            part
            for key, value in environment.items()
            if key.startswith("POSTHOUSE_")
            for part in ("--env", f"{key}={value}")
        ]
        with log.open("ab") as output:
            run = subprocess.Popen(
                [
                    *("docker", "run", "--name", name, *HARDENED),
                    *(*self._mounts, *settings, IMAGE, service),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(Container(run, name, service))
        return self.started[-1]

    def close(self) -> None:
        """Ends at once what is left."""
        left = [container for container in self.started if container.poll() is None]
        if left:
            docker("kill", *[container.name for container in left])
        for container in left:
            container.run.wait(60)
