from __future__ import annotations

import json

import pytest

from shared.mail_security import Security


def test_round_trip() -> None:
    full = Security(
        encrypted=True,
        status="decrypted",
        certificate="7",
        integrity="aead",
        signature="valid",
        signer="alice@example.org",
        reason="",
        recipients=("a", "b"),
        key_algorithm="RSA-OAEP",
        content_algorithm="AES-256-GCM",
    )
    for value in (full, Security()):
        assert Security.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_tolerates_what_others_wrote() -> None:
    assert Security.from_json({"encrypted": True, "added_later": 1}) == Security(encrypted=True)
    assert Security.from_json({}) == Security()


def test_refuses_words_that_do_not_exist() -> None:
    for wrong in ({"status": "maybe"}, {"integrity": "some"}, {"signature": "good"}):
        with pytest.raises(ValueError):
            Security.from_json(wrong)
