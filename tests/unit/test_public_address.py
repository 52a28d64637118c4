"""The public address is refused at start-up where the pages could not work behind it."""

from __future__ import annotations

import pytest

from shared.errors import InvalidInput
from shared.settings import Settings, load


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("DATABASE_URL", "postgresql://x"),
        ("BROKER_URL", "redis://x"),
        ("STORE_URL", "file:///tmp"),
        ("SECRET_KEYS", "a:b"),
    ):
        monkeypatch.setenv(f"POSTHOUSE_{name}", value)


@pytest.mark.parametrize(
    "given", ["https://post.example", "https://post.example/", "http://[::1]:8025", "http://a:80"]
)
def test_an_origin_is_taken(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("POSTHOUSE_PUBLIC_URL", given)
    assert load(Settings).public_url == given.rstrip("/")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("https://example.org/posthouse", "without a path"),
        ("https://example.org/posthouse/", "without a path"),
        ("https://example.org/?stack=1", "without a path"),
        ("https://me:secret@example.org", "without a path"),
        ("post.example.org", "write it as https://"),
        ("ftp://example.org", "write it as https://"),
    ],
)
def test_anything_else_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.setenv("POSTHOUSE_PUBLIC_URL", given)
    with pytest.raises(InvalidInput, match=told) as refused:
        load(Settings)
    assert refused.value.field == "public_url"
    assert "POSTHOUSE_PUBLIC_URL" in str(refused.value)
