"""Signatures of events: what does not show that Posthouse wrote it for this handler is refused."""

from __future__ import annotations

import hashlib
import hmac
import time

import pytest

from posthouse import Consumer
from posthouse.signing import Unverified, Verifier, sign

EVENT = b'{"id":"1","data":"gr\\u00fc\\u00dfe"}'
KEY, FORMER = "posthouse_signing_new", "posthouse_signing_old"


def test_the_form_is_the_documented_one() -> None:
    mac = hmac.new(KEY.encode(), b"tickets.1764364310123." + EVENT, hashlib.sha256).hexdigest()
    signature = sign("tickets", EVENT, [KEY], now=1764364310.123)
    assert signature == f"t=1764364310123,v1={mac}"


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_it_is_hmac_for_keys_of_every_length(length: int) -> None:
    key = ("ä" + "k" * length)[:length]
    mac = hmac.new(key.encode(), b"tickets.1764364310123." + EVENT, hashlib.sha256).hexdigest()
    assert sign("tickets", EVENT, [key], now=1764364310.123).endswith(f",v1={mac}")


@pytest.mark.parametrize("keys", [KEY, FORMER, f"{FORMER} {KEY}", f"{FORMER},{KEY}", [KEY]])
def test_in_a_renewal_either_key_will_do(keys: str | list[str]) -> None:
    Verifier("tickets", keys).check(EVENT, sign("tickets", EVENT, [KEY, FORMER]))


def test_with_both_keys_what_was_signed_before_the_renewal_is_taken() -> None:
    Verifier("tickets", [KEY, FORMER]).check(EVENT, sign("tickets", EVENT, [FORMER]))


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("", "not signed"),
        ("v1=00", "form"),
        (f"t=1,v1={'0' * 64}", "no signing key"),
        (sign("tickets", EVENT + b" ", [KEY]), "changed"),
        (sign("crm", EVENT, [KEY]), "another handler"),
        (sign("tickets", EVENT, ["posthouse_signing_of_somebody"]), "another key"),
        (sign("tickets", EVENT, [KEY]).replace("t=1", "t=2"), "changed"),
        (sign("tickets", EVENT, [KEY], now=time.time() - 61 * 86400), "replay"),
        (sign("tickets", EVENT, [KEY]) + "\n", "form"),
    ],
    # Signatures have a time in them, and the names of tests have to stay.
    ids=["none", "short", "zeros", "event", "handler", "key", "time", "replay", "line-end"],
)
def test_what_posthouse_did_not_sign_is_refused_with_the_reason(signature: str, said: str) -> None:
    with pytest.raises(Unverified, match=said):
        Verifier("tickets", KEY).check(EVENT, signature)


def test_a_consumer_without_a_key_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOUSE_SIGNING_KEY", raising=False)
    with pytest.raises(ValueError, match="POSTHOUSE_SIGNING_KEY"):
        Consumer("redis://localhost", "tickets")
    monkeypatch.setenv("POSTHOUSE_SIGNING_KEY", KEY)
    Consumer("redis://localhost", "tickets")
