"""Every line of the corpus, said by a server at the place where it was seen, to the end of a run.

What must hold for each: the verdict and the delay; nothing is quarantined by a passing state; the
connection looks ill while it lasts; only a dead token is lost; and once the server says nothing of
the kind any more, every mail comes, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.clock import utc_now
from shared.connections import Connection, Mode, TransportSecurity
from shared.credentials import Grant, Provider
from shared.handlers import Handler
from shared.mailbox.base import Mailbox
from shared.mailbox.oauth.tokens import Tokens
from shared.storage import authorisations, connections, handlers, scheduling
from shared.vault import Vault, new_key, password_path, tokens_path
from tests.corpus import Line, lines
from tests.integration.oauth.conftest import ALICE, Share, Stack
from tests.rig.single_run import FetcherHere, Outcome
from tests.servers.certificates import Authority
from tests.servers.oidc import OidcServer
from tests.servers.provider import ScriptedProvider
from tests.servers.scripted import Conversation, Script, ScriptedServer, imap, pop3

LINES = lines()
XOAUTH2 = b"IMAP4rev1 UIDPLUS UNSELECT SASL-IR AUTH=XOAUTH2"
POP3 = b"UIDL\r\nTOP\r\nUSER\r\nSASL XOAUTH2\r\n"
#: Where an outcome is a login's; those of the provider's pages have no run.
RUNS = {"refresh", "any", "client credentials", "service account"}


class Speaker:
    """Mail servers whose script a test replaces; each script has two new mails."""

    def __init__(self, authority: Authority) -> None:
        identity = authority.issue("localhost", "127.0.0.1")
        self.script: Script = imap()
        self._numbers = itertools.count(1)
        self.tls = ScriptedServer(lambda talk: self.script(talk), tls=identity)
        self.plain = ScriptedServer(lambda talk: self.script(talk))

    def mails(self) -> dict[int, bytes]:
        one, two = next(self._numbers), next(self._numbers)
        return {n: b"Subject: mail %d\r\n\r\ntext %d\r\n" % (n, n) for n in (one, two)}


@pytest.fixture
def speaker(authority: Authority) -> Iterator[Speaker]:
    speaker = Speaker(authority)
    with speaker.tls, speaker.plain:
        yield speaker


@pytest.fixture
def provider(authority: Authority) -> Iterator[ScriptedProvider]:
    with ScriptedProvider(authority.issue("localhost", "127.0.0.1")) as provider:
        yield provider


class Office:
    """A database with connections, and a fetcher for them in this process."""

    def __init__(self, stack: Stack, fetcher: FetcherHere) -> None:
        self.stack = stack
        self.fetcher = fetcher

    def connect(self, connection: Connection, *, password: str = "") -> Connection:
        stored = replace(connection, enabled=True, has_password=bool(password))
        with self.stack.database.transaction() as session:
            number = connections.insert(session, stored)
            if password:
                sealed = self.stack.vault.seal(password.encode(), password_path(number))
                connections.write_password(session, number, sealed)
            scheduling.enable(session, number)
        return replace(stored, id=number)

    def grant(self, connection: Connection, *, left: timedelta = timedelta(hours=1)) -> None:
        """What a login leaves behind, its access token ending in `left`."""
        tokens = Tokens(
            access_token="access-0",
            refresh_token="refresh-0",
            expires_at=utc_now() + left,
            account=connection.username,
        )
        with self.stack.database.transaction() as session:
            authorisations.grant(
                session,
                connection_id=connection.id,
                sealed_tokens=self.stack.vault.seal(tokens.to_bytes(), tokens_path(connection.id)),
                account=connection.username,
                by="the admin",
                expires_at=tokens.expires_at,
            )

    def run(self, connection: Connection) -> Outcome:
        return self.fetcher.run(connection.id)


def open_office(
    database_url: str,
    redis_url: str,
    folder: Path,
    oidc: OidcServer,
    opened: Callable[[Stack], Callable[[Connection], Mailbox]] | None = None,
) -> Iterator[Office]:
    from shared.storage.pool import Database

    key = new_key()
    with Database(database_url, size=6) as database:
        stack = Stack(database, Vault.from_settings([key]), oidc)
        with database.transaction() as session:
            handlers.insert(session, Handler(name="archive"))
        opener = opened(stack) if opened is not None else None
        with FetcherHere(database_url, redis_url, folder, key, opener) as fetcher:
            yield Office(stack, fetcher)


@pytest.fixture
def office(database_url: str, redis_url: str, tmp_path: Path, oidc: OidcServer) -> Iterator[Office]:
    yield from open_office(database_url, redis_url, tmp_path, oidc)


def of(protocol: str, *expected: str) -> list[Line]:
    return [
        line
        for line in LINES
        if line.protocol == protocol and (not expected or line.expected in expected)
    ]


def faults(line: Line, ill: Outcome, before: Outcome) -> list[str]:
    """What is wrong with the outcome of a run in which the server said the line."""
    wrong = []
    if line.expected not in ("this mail only", "waits"):
        if ill.health not in ("failing", "needs-authorisation"):
            wrong.append(f"looks {ill.health}")
        if line.expected.startswith("needs authorisation") != (ill.health == "needs-authorisation"):
            wrong.append(f"health {ill.health} ({ill.code})")
        if len(ill.hint) < 20:
            wrong.append(f"no hint to {ill.code}")
        if ill.quarantined != before.quarantined:
            wrong.append("a mail is in quarantine")
    if line.delay is not None and ill.delay < min(line.delay, 86_400) - 1:
        wrong.append(f"tried again after {ill.delay} s")
    if ill.delay > 3600 + 1 and line.delay is None:
        wrong.append(f"tried again only after {ill.delay} s")
    if ill.lost != (line.expected == "needs authorisation"):
        wrong.append("the grant is lost" if ill.lost else "the grant is not lost")
    return [f"{line}: {what}" for what in wrong]


# ---- IMAP and POP3


def imap_script(line: Line, mails: dict[int, bytes]) -> Script:
    words = line.words.encode()

    def refuse(talk: Conversation, tag: bytes, _: bytes) -> None:
        if words.startswith(b"* BYE"):
            talk.send(words + b"\r\n")
            talk.hang_up()
        else:
            talk.send(tag + b" " + words + b"\r\n")

    first = min(mails)

    def only_the_first(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in mails:
            if b"%d" % uid in rest or b":" in rest:
                if uid == first:
                    talk.send(words.replace(b"UID 2", b"UID %d" % uid) + b"\r\n")
                else:
                    talk.send(
                        b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n"
                        % (uid, uid, len(mails[uid]), mails[uid])
                    )
        talk.ok(tag)

    if line.answers == "greeting":
        greeting = b"" if line.words == "(closed)" else words + b"\r\n"
        return lambda talk: talk.send(greeting) if greeting else None
    if line.expected == "this mail only":
        return imap({"UID FETCH": only_the_first}, mails=mails, capability=XOAUTH2)
    places = {
        "LOGIN": ["LOGIN"],
        "AUTHENTICATE (token)": ["AUTHENTICATE"],
        "SELECT": ["SELECT", "EXAMINE", "STATUS"],
        "FETCH": ["UID FETCH"],
        "STORE": ["UID STORE"],
    }[line.answers]
    return imap(dict.fromkeys(places, refuse), mails=mails, capability=XOAUTH2)


def pop3_script(line: Line, mails: dict[int, bytes], names: dict[int, bytes]) -> Script:
    words = line.words.encode() + b"\r\n"

    def refuse(talk: Conversation, _: bytes, rest: bytes) -> None:
        if line.expected == "this mail only" and rest.strip() != b"1":
            talk.send(b"+OK\r\n" + mails[int(rest)] + b".\r\n")
            return
        talk.send(words)

    if line.answers == "greeting":
        return lambda talk: talk.send(words)
    place = line.answers.partition(" ")[0]
    return pop3({place: refuse}, mails=mails, uidls=names, capabilities=POP3)


@pytest.mark.promise("A5", "M27")
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_words_of_mail_servers(
    office: Office,
    speaker: Speaker,
    provider: ScriptedProvider,
    authority: Authority,
    protocol: str,
    share: Share,
) -> None:
    settings = {
        "authority": provider.issuer,
        "ca_certificate": authority.pem,
        "imap_host": f"localhost:{speaker.tls.port}",
        "pop3_host": f"localhost:{speaker.tls.port}",
    }
    credential = office.stack.credential(settings=settings)
    mode = Mode(protocol)
    by_password = office.connect(
        Connection(
            name="by password",
            mode=mode,
            host="127.0.0.1",
            port=speaker.plain.port,
            security=TransportSecurity.NONE,
            username="alice",
        ),
        password="secret",
    )
    pop: dict[str, Any] = {"host": "localhost", "port": speaker.tls.port}
    by_token = office.connect(
        Connection(
            name="by token",
            mode=Mode.MICROSOFT_IMAP if protocol == "imap" else mode,
            username=ALICE,
            credential_id=credential.id,
            **(pop if protocol == "pop3" else {}),
        )
    )
    office.grant(by_token)
    wrong: list[str] = []
    for line in share(of(protocol)):
        connection = by_token if "token" in line.answers else by_password
        mails = speaker.mails()
        if protocol == "imap":
            broken, well = imap_script(line, mails), imap(mails=mails, capability=XOAUTH2)
        else:
            names = {n: b"uidl-%d" % key for n, key in enumerate(mails, 1)}
            mails = dict(enumerate(mails.values(), 1))
            broken = pop3_script(line, mails, names)
            well = pop3(mails=mails, uidls=names, capabilities=POP3)
        speaker.script = (
            imap(mails={}) if protocol == "imap" else pop3(mails={}, uidls={}, capabilities=POP3)
        )
        before = office.run(connection)
        assert before.health == "working", f"before {line}: {before}"
        speaker.script = broken
        ill = office.run(connection)
        wrong += faults(line, ill, before)
        if line.expected == "this mail only":
            if ill.mails != before.mails + 1:
                wrong.append(f"{line}: {ill.mails - before.mails} mails came beside it")
            continue
        speaker.script = well
        after = office.run(connection)
        if (after.health, after.mails - before.mails) != ("working", 2):
            wrong.append(f"{line}: afterwards {after}")
    assert not wrong, "\n".join(wrong)


# ---- the token endpoint


def said(provider: ScriptedProvider, line: Line) -> None:
    status, asked, kind, body = line.http
    if kind == "text/html":
        provider.say_page(status, body, discovery=True)
    else:
        provider.say(status, line.json, retry_after=asked)


@pytest.mark.promise("A4", "A5", "M27")
@pytest.mark.parametrize("vendor", list(Provider))
def test_words_of_token_endpoints(
    office: Office,
    speaker: Speaker,
    provider: ScriptedProvider,
    authority: Authority,
    vendor: Provider,
    share: Share,
) -> None:
    microsoft = vendor is Provider.MICROSOFT
    settings = {
        "authority": provider.issuer,
        "ca_certificate": authority.pem,
        "imap_host": f"localhost:{speaker.tls.port}",
    }
    delegated = office.stack.credential(provider=vendor, settings=settings)
    names = {"entra": Provider.MICROSOFT, "google": Provider.GOOGLE, "any": vendor}
    ours = [
        line
        for line in of("token endpoint")
        if names[line.provider] is vendor and line.answers in RUNS
    ]
    assert len(ours) > (80 if microsoft else 12)
    wrong: list[str] = []
    for number, line in enumerate(share(ours)):
        itself = line.answers == "client credentials"
        if line.answers == "service account":
            continue  # its key file names Google's own token endpoint: see the unit test
        credential = (
            office.stack.credential(grant=Grant.CLIENT_CREDENTIALS, tenant="t", settings=settings)
            if itself
            else delegated
        )
        connection = office.connect(
            Connection(
                name=f"line {number}",
                mode=Mode.MICROSOFT_IMAP if microsoft else Mode.GOOGLE_IMAP,
                username=f"user{number}@example.org",
                credential_id=credential.id,
            )
        )
        if not itself:
            office.grant(connection, left=timedelta(seconds=-5))
        mails = speaker.mails()
        speaker.script = imap(mails=mails, capability=XOAUTH2)
        before = office.fetcher.outcome(connection.id)
        said(provider, line)
        ill = office.run(connection)
        found = faults(line, ill, before)
        provider.speak()
        asked = provider.token_requests
        after = office.run(connection)
        if line.expected == "needs authorisation":
            if after.health != "needs-authorisation" or provider.token_requests != asked:
                found.append(f"{line}: a dead token was tried again: {after}")
        elif (after.health, after.mails - before.mails) != ("working", 2):
            found.append(f"{line}: afterwards {after}")
        wrong += found
    assert not wrong, "\n".join(wrong)
