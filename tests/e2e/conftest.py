"""One stack with its pages for all browser tests; each test brings mailboxes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import Site
from tests.rig.forkserver import Forkserver
from tests.rig.queue_events import emptied
from tests.rig.stack import Stack
from tests.servers.chromium import Chromium
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.processes import free_port
from tests.servers.redis import RedisServer

# A busy machine takes its time to answer; what a test waits for is never the time itself.
expect.set_options(timeout=20_000)


# Not for the whole session: services that nobody asks any more take a tenth of a processor.
@pytest.fixture(scope="package")
def site(
    postgres: PostgresServer,
    schema_template: str,
    redis_server: RedisServer,
    dovecot: Dovecot,
    chromium: Chromium,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Every service running, with real mail servers and an empty database to begin with."""
    database = postgres.create_database(schema_template)
    broker = emptied(redis_server.url.rpartition("/")[0] + "/7")
    folder: Path = tmp_path_factory.mktemp("site")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    forkserver = Forkserver()
    try:
        settings = {"port": str(port), "public_url": url}
        with Stack(database, broker, folder, forkserver=forkserver, settings=settings) as stack:
            stack.start("admin", "scheduler", "fetcher", "decryptor", "forwarder")
            site = Site(stack, url, dovecot, chromium)
            site.wait()
            yield site
    finally:
        forkserver.close()
        postgres.drop_database(database)


@pytest.fixture(autouse=True)
def handlers_take_no_mails_of_other_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests share the services and run in any order: a mail that waits for a handler of an earlier
    test, too, is in none of the states that the next one looks for.

    A test that needs such a handler deletes or disables it.
    """
    yield
    if "site" in request.fixturenames:
        stack: Stack = request.getfixturevalue("site").stack
        left = stack.query("SELECT name FROM handler WHERE enabled AND all_connections")
        if left:
            stack.execute("UPDATE handler SET enabled = false WHERE all_connections")
        assert left == [], f"These handlers are left, and take the mails of every test: {left}"


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """A browser logged in with the bootstrap token, 1280 pixels wide, light."""
    with site.visitor() as visitor:
        yield visitor
