"""The demo's children, and what they need to know of each other."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Final

from cli.demo import seed
from cli.demo.certificate import USER
from cli.local.console import Console
from cli.local.data_folder import DataFolder, naming, read_kept
from cli.local.supervisor import CRASH, Child, Program, Supervisor
from shared.errors import PosthouseError

_READY_SECONDS: Final = 120.0


class Demo:
    """The demo mailbox and the handler that prints."""

    def __init__(self, folder: DataFolder, supervisor: Supervisor, console: Console) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._console = console
        self._root = folder.root / "demo"
        self._password = folder.password("demo_password")
        self._imap_port = folder.port("demo_imap_port")
        self._smtp_port = folder.port("demo_smtp_port")
        self._mailbox: Child | None = None
        self._handler: Child | None = None

    def start_mailbox(self) -> None:
        self._mailbox = self._supervisor.start(
            Program(
                "demo-mailbox",
                [
                    *(sys.executable, "-P", "-m", "cli.main", "demo", "mailbox"),
                    *("--folder", str(self._root), "--imap-port", str(self._imap_port)),
                    *("--smtp-port", str(self._smtp_port)),
                ],
                environment={**os.environ, "POSTHOUSE_DEMO_PASSWORD": self._password},
                ready=lambda: seed.check_greeting(self._imap_port),
                problem=CRASH,
            )
        )

    def settle(self, url: str, environment: Mapping[str, str], give_up: Callable[[], bool]) -> None:
        """Makes certificate, handler and connection through the API, then starts the handler.

        What was made in an earlier run is left as it is, whatever people did to it.
        """
        assert self._mailbox is not None
        self._supervisor.wait_ready([self._mailbox], _READY_SECONDS, give_up)
        if give_up():
            return
        try:
            kept = read_kept(self._folder.root)
            secrets = kept.get("demo_handler_token"), kept.get("demo_signing_key")
            token, key = seed.seed(
                url,
                environment["POSTHOUSE_ADMIN_TOKEN"],
                self._root,
                password=self._password,
                imap_port=self._imap_port,
                handler_secrets=(secrets[0], secrets[1]) if secrets[0] and secrets[1] else None,
            )
        except PosthouseError as error:
            self._console.problem("demo", f"{error} {error.hint}")
            return
        self._folder.replace("demo_handler_token", token)
        self._folder.replace("demo_signing_key", key)
        self._handler = self._supervisor.start(
            Program(
                "demo-handler",
                [sys.executable, "-P", "-u", "-m", "cli.main", "demo", "handler"],
                environment={
                    **os.environ,
                    **environment,
                    "POSTHOUSE_URL": url,
                    "POSTHOUSE_HANDLER_TOKEN": token,
                    "POSTHOUSE_SIGNING_KEY": key,
                },
                problem=CRASH,
                speaks=True,
            )
        )

    def stop(self) -> None:
        self._supervisor.stop([child for child in (self._handler,) if child is not None])

    def print_summary(self) -> None:
        say = self._console.say
        say(f"  Demo mailbox   {USER}  [dim]IMAP {self._imap_port}, SMTP {self._smtp_port}[/]")
        say("\nPut another mail into it, from a second terminal:\n")
        chosen = naming(self._folder.root)
        say(f'  {_command()} demo send --subject "Hello" {chosen}'.rstrip())


def _command() -> str:
    """How this command was called, so that what is shown can be copied."""
    called = sys.argv[0]
    if called.endswith(".py"):
        return f"{shlex.quote(sys.executable)} -m cli.main"
    return shlex.quote(called) if os.sep in called else "posthouse"
