"""What a handler's page gives to copy runs when it is pasted into a shell."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.e2e.site import Site, mail
from tests.servers.processes import end_with_parent


@pytest.mark.promise("H2")
def test_what_the_page_gives_to_copy_runs(site: Site, page: Page, tmp_path: Path) -> None:
    name, mark, user = f"pasted-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:10], site.new_mailbox()
    connection = site.add_connection(user, handler=name)
    page.goto(f"{site.url}/handlers")
    page.get_by_role("link", name=name).click()
    shown = page.locator(".copyable pre").all_inner_texts()
    (known,) = (text for text in shown if "POSTHOUSE_SIGNING_KEY" in text)
    (python,) = (text for text in shown if "-m posthouse run" in text)
    (shell,) = (text for text in shown if "XREADGROUP" in text)
    assert f"posthouse handlers broker-account {name}" in shown
    (handler,) = (h for h in site.api("GET", f"/handlers?q={name}")["items"])
    account = site.api("POST", f"/handlers/{handler['id']}/broker-account")
    assert account["made"]
    for placeholder, value in {
        "<user>:<password>@": f"{account['user']}:{account['password']}@",
        "<the token>": site.api("POST", f"/handlers/{handler['id']}/token")["token"],
        "<the signing key>": site.api("POST", f"/handlers/{handler['id']}/signing-key")[
            "signing_key"
        ],
    }.items():
        assert placeholder in known
        known = known.replace(placeholder, value)
    site.dovecot.deliver(user, [mail(f"One {mark}", user)])
    site.enable(connection)
    site.wait_taken(connection, 1)
    pip, _, program = python.partition("\n")
    assert pip == "pip install 'posthouse[redis]'"
    running = _pasted(tmp_path, known, program.replace("python3", sys.executable))
    try:
        deadline = time.monotonic() + 60
        while f"bob@example.org One {mark}" not in (tmp_path / "said").read_text():
            assert time.monotonic() < deadline, (tmp_path / "said").read_text()
            time.sleep(0.2)
    finally:
        running.terminate()
        running.wait()
    assert _pasted(tmp_path, known, shell).wait(30) == 0
    assert "ERR" not in (tmp_path / "said").read_text()


def _pasted(folder: Path, *lines: str) -> subprocess.Popen[bytes]:
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(
            ["sh", "-c", "\n".join(lines).replace(sys.executable, f"exec {sys.executable}")],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
