"""A new kind of mailbox is a package and its entries in the registry: one is planted in a copy of
the tree, and mailboxes of it come through the form, the API, `posthouse apply` and a run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from shared.storage.migrations import versions
from tests.contract.mailbox_kinds import mail
from tests.rig.forkserver import Forkserver
from tests.rig.queue_events import open_queue
from tests.rig.stack import ADMIN_TOKEN, ROOT, Stack
from tests.servers.processes import free_port

#: A mailbox that is a folder of files, named by the username. The whole package.
PACKAGE = """
from pathlib import Path

from shared.mailbox.connection_attempt import SessionRequest
from shared.mailbox.base import Mailbox
from shared.mailbox.failures import Refused
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox


def open_session(request: SessionRequest) -> Mailbox:
    folder = Path(request.login.username)
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder}.", step="login", code="login-refused")
    account = MemoryAccount()
    for file in sorted(folder.glob("*.eml")):
        account.deliver(file.read_bytes())
    return MemoryMailbox(account)
"""
ENTRY = """
        MailboxKind(
            mode=Mode.FILES,
            title="Folder of files",
            protocol="files",
            features=frozenset({Feature.FOLDERS}),
            host="here",
            keeps_sessions=False,
            steps=("login", "folder"),
        ),
"""
#: What CONTRIBUTING.md's recipe has changed beside the package: (file, before, after).
REGISTRY = [
    ("shared/kinds.py", '    IMAP = "imap"\n', '    IMAP = "imap"\n    FILES = "files"\n'),
    ("shared/kinds.py", "    for kind in (\n", "    for kind in (\n" + ENTRY.lstrip("\n")),
    (
        "shared/mailbox/open.py",
        '    "imap": imap.open_session,\n',
        '    "imap": imap.open_session,\n    "files": files.open_session,\n',
    ),
    (
        "shared/mailbox/open.py",
        "from shared.mailbox.graph import open_session as graph\n",
        "from shared.mailbox.files import open_session as files\n"
        "from shared.mailbox.graph import open_session as graph\n",
    ),
]
#: The next version of the schema.
MIGRATION = """
ALTER TABLE connection DROP CONSTRAINT connection_mode_check;
ALTER TABLE connection ADD CONSTRAINT connection_mode_check CHECK (mode IN
    ('files', 'pop3', 'imap', 'google-imap', 'microsoft-imap', 'microsoft-graph'));
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with one kind more."""
    tree = tmp_path_factory.mktemp("tree")
    for part in ("cli", "services", "shared", "sdk", "tests"):
        left_out = shutil.ignore_patterns("__pycache__", "corpus", "*.egg-info", ".venv")
        shutil.copytree(ROOT / part, tree / part, ignore=left_out)
    package = tree / "shared/mailbox/files"
    package.mkdir()
    (package / "__init__.py").write_text('"""Folders of files."""\n')
    (package / "open_session.py").write_text(PACKAGE)
    version = tree / f"shared/storage/migrations/v{len(versions()) + 1:04}"
    version.mkdir()
    (version / "10_kind.sql").write_text(MIGRATION)
    for name, before, after in REGISTRY:
        text = (tree / name).read_text()
        assert text.count(before) == 1, (name, before)
        (tree / name).write_text(text.replace(before, after))
    return tree


class Site:
    """A running Posthouse with the kind, a browser that is logged in, and the command line."""

    def __init__(self, tree: Path, stack: Stack, port: int) -> None:
        self.tree = tree
        self.stack = stack
        self.url = f"http://127.0.0.1:{port}"
        self.browser = httpx.Client(base_url=self.url, timeout=60, follow_redirects=True)
        self.api = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
            timeout=60,
        )

    def posthouse(self, *words: str) -> str:
        """What the command says; it has to work."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.tree), str(self.tree / "sdk/src")]),
            "POSTHOUSE_URL": self.url,
            "POSTHOUSE_TOKEN": ADMIN_TOKEN,
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", *words],
            cwd=self.tree,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send(self, path: str, **fields: str) -> httpx.Response:
        """A form, with the proof that the page has."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.browser.get(path).text)
        assert token
        return self.browser.post(path, data={"csrf": token[1], **fields})


@pytest.fixture
def site(planted: Path, empty_database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Site]:
    forkserver = Forkserver(planted)
    port = free_port()
    settings = {"port": str(port), "public_url": f"http://127.0.0.1:{port}"}
    with Stack(empty_database_url, redis_url, tmp_path, forkserver=forkserver) as stack:
        path = os.pathsep.join([str(planted), str(planted / "sdk/src")])
        subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", "migrate"],
            cwd=planted,
            env={**stack.environment_of("migrate"), "PYTHONPATH": path},
            check=True,
        )
        stack.start("admin", settings=settings)
        running = Site(planted, stack, port)

        def ready() -> bool:
            try:
                return running.browser.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        stack.wait(ready, "the admin service answers")
        running.send("/login", way="token", token=ADMIN_TOKEN)
        yield running
        running.browser.close()
        running.api.close()
    forkserver.close()


def a_box(folder: Path, *subjects: str) -> str:
    folder.mkdir()
    for number, subject in enumerate(subjects):
        (folder / f"{number}.eml").write_bytes(mail(subject))
    return str(folder)


def test_a_planted_kind_goes_through_form_api_apply_and_a_run(site: Site, tmp_path: Path) -> None:
    boxes = {name: a_box(tmp_path / name, f"in {name}") for name in ("form", "api", "file")}
    site.stack.add_handler(rules={})

    page = site.browser.get("/connections/new?mode=files").text
    assert "Folder of files" in page
    parts = re.findall(r'data-modes="([^"]*)"(.*?)(?=data-modes=|</form>)', page, re.DOTALL)
    has = {
        name: modes.split() for modes, part in parts for name in re.findall(r'name="(\w+)"', part)
    }
    assert "files" in has["folder"]
    assert "files" not in has["host"]
    saved = site.send(
        "/connections/new",
        name="by form",
        mode="files",
        username=boxes["form"],
        interval_minutes="1",
        after_download="mark-read",
        selection="unread",
        timeout_ms="10000",
    )
    assert saved.status_code == 200, saved.text
    assert "Folder of files" in saved.text

    made = site.api.post(
        "connections", json={"name": "by api", "mode": "files", "username": boxes["api"]}
    )
    assert made.status_code == 201, made.text
    refused = site.api.post(
        "connections", json={"name": "no", "mode": "files", "username": "x", "host": "mail"}
    )
    assert "has no use for 'host'" in refused.text
    tested = site.api.post(f"connections/{made.json()['id']}/test").json()
    assert [step["name"] for step in tested["steps"]] == ["login", "folder"]
    assert (tested["ok"], tested["total"]) == (True, 1), tested
    assert site.api.post(f"connections/{made.json()['id']}/estimate").json()["new"] == 1
    modes = site.api.get("openapi.json").json()["components"]["schemas"]["Mode"]["enum"]
    assert "files" in modes

    entry: dict[str, str | bool] = {"name": "by file", "mode": "files", "username": boxes["file"]}
    entry |= {"enabled": True, "acknowledged": True}
    file = tmp_path / "posthouse.yaml"
    file.write_text(yaml.safe_dump({"connections": [entry]}))
    assert "by file" in site.posthouse("apply", "-f", str(file))
    assert "as the file says" in site.posthouse("apply", "-f", str(file))
    assert yaml.safe_load(site.posthouse("export"))["connections"]
    for name in ("by form", "by api"):
        site.posthouse("connections", "enable", name, "--acknowledge")

    site.stack.start("scheduler", "fetcher", "decryptor")
    site.stack.wait_settled(3)
    events = open_queue(site.stack.output_url, "archive").events()
    subjects = {event["data"]["headers"]["subject"] for event in events}
    assert subjects == {"in form", "in api", "in file"}
    assert {event["data"]["connection"]["mode"] for event in events} == {"files"}
