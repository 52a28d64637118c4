"""Every form of address that libpq takes, for migrations and services alike."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from shared.errors import InvalidInput
from shared.storage.migrate import migrate
from shared.storage.migrations import expected_version
from shared.storage.pool import Database
from shared.storage.schema import check
from tests.servers.processes import free_port


def as_words(url: str) -> str:
    parts = urlsplit(url)
    return (
        f"host={parts.hostname} port={parts.port} user={parts.username} "
        f"password={parts.password} dbname={parts.path.strip('/')}"
    )


def with_a_dead_host(url: str) -> str:
    """As during a failover: the first host does not answer, the second one can be written."""
    parts = urlsplit(url)
    hosts = f"127.0.0.1:{free_port()},{parts.hostname}:{parts.port}"
    account = f"{parts.username}:{parts.password}"
    return f"postgresql://{account}@{hosts}{parts.path}?target_session_attrs=read-write"


def without_a_host_in_front(url: str) -> str:
    parts = urlsplit(url)
    account = f"user={parts.username}&password={parts.password}"
    return f"postgresql://{parts.path}?host={parts.hostname}&port={parts.port}&{account}"


@pytest.mark.parametrize("form", [str, as_words, with_a_dead_host, without_a_host_in_front])
def test_migrations_and_services_take_the_same_forms(
    empty_database_url: str, form: Callable[[str], str]
) -> None:
    address = form(empty_database_url)
    assert migrate(address) == expected_version()
    with Database(address, size=1) as database:
        check(database)


@pytest.mark.parametrize("address", ["postgresql://[::1", "host=a port", "mysql://a/b", "nothing"])
def test_what_is_no_address_is_refused_with_a_form_that_is(address: str) -> None:
    for take in (migrate, Database):
        with pytest.raises(InvalidInput) as refused:
            take(address)
        assert "postgresql://user:password@host/name" in refused.value.hint
        assert refused.value.field == "database_url"
