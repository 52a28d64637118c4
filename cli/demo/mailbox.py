"""The demo mail server: IMAP out, SMTP in, one account, on the loopback interface.

Anything on this machine may send to it: `posthouse demo send`, or any mail program, to the SMTP
port, whatever the recipient.
"""

from __future__ import annotations

import asyncio
import signal
from argparse import Namespace
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session
from pymap.backend.dict import Config, DictBackend, Login
from pymap.backend.dict.filter import FilterSet
from pymap.imap import IMAPService
from pymap.parsing.message import AppendMessage

from cli.demo.certificate import DemoCertificate
from cli.demo.folders import Archive, LastingAccount
from cli.demo.samples import samples

#: Folders that the demo account has beside its inbox.
FOLDERS = ("Archive", "Archive/2026", "Entwürfe", "Support & Sales")
_LARGEST = 160 << 20

log = structlog.get_logger(__name__)


def serve(
    folder: Path, *, user: str, password: str, host: str, imap_port: int, smtp_port: int
) -> None:
    """Runs until SIGTERM or SIGINT. The first time, sample mails are put in."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    asyncio.run(_serve(folder, user, password, host, imap_port, smtp_port))


class _Intake:
    """SMTP's side: what is handed in goes to the inbox, octet for octet."""

    def __init__(self, account: LastingAccount) -> None:
        self._account = account

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        octets = content if isinstance(content, bytes) else str(content).encode()
        inbox = await self._account.get_mailbox("INBOX")
        await inbox.append(AppendMessage(octets, datetime.now(UTC), frozenset()))
        log.info("mail accepted", octets=len(octets), sender=envelope.mail_from)
        return "250 OK"


async def _serve(
    folder: Path, user: str, password: str, host: str, imap_port: int, smtp_port: int
) -> None:
    loop = asyncio.get_running_loop()
    _keep_tasks_alive(loop)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    archive = Archive(folder / "mailbox.sqlite")
    is_new = archive.is_new()
    async with AsyncExitStack() as stack:
        stack.callback(archive.close)
        config = _config(user, password, host, imap_port)
        config.apply_context()
        login = Login(config)
        await DictBackend._add_demo_user(config, login)
        account = LastingAccount(archive)
        config.set_cache[user] = (account, FilterSet())
        if is_new:
            await _fill(account, DemoCertificate.of(folder), user)
        backend = DictBackend(login, config)
        await backend.start(stack)
        await IMAPService(backend, config).start(stack)
        receive = partial(SMTP, _Intake(account), data_size_limit=_LARGEST, enable_SMTPUTF8=True)
        SMTP.line_length_limit = 1 << 20
        smtp = await loop.create_server(receive, host, smtp_port)
        stack.callback(smtp.close)
        log.info("demo mailbox opened", imap_port=imap_port, smtp_port=smtp_port, user=user)
        await stop.wait()


async def _fill(account: LastingAccount, certificate: DemoCertificate, user: str) -> None:
    for name in FOLDERS:
        await account.add_mailbox(name)
    inbox = await account.get_mailbox("INBOX")
    for octets in samples(certificate, recipient=user):
        await inbox.append(AppendMessage(octets, datetime.now(UTC), frozenset()))


def _config(user: str, password: str, host: str, port: int) -> Config:
    arguments = Namespace(
        demo_data=False,
        demo_user=user,
        demo_password=password,
        host=host,
        port=port,
        debug=False,
        cert=None,
        key=None,
        tls=False,
        passlib_cfg=None,
        proxy_protocol=None,
        inherited_sockets=None,
    )
    return Config.from_args(arguments)


def _keep_tasks_alive(loop: asyncio.AbstractEventLoop) -> None:
    """The loop itself refers to tasks weakly, and pymap drops some of its own in mid-flight."""
    running: set[asyncio.Future[Any]] = set()

    def create(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    loop.set_task_factory(create)
