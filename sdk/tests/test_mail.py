"""`data.mail` of an event as the SDK has it, and back."""

from __future__ import annotations

import pytest

from posthouse.mail import Address, Bounce, Recipient, mail_fields, read_mail

pytestmark = pytest.mark.promise("F5")


def test_what_a_bounce_says_is_read_and_made() -> None:
    fields = {
        "action": "failed",
        "status": "5.1.1",
        "recipient": "bob@gone.example",
        "diagnostic": "No such user.",
        "original_message_id": "<1@a.example>",
        "diagnostic_is_from_text": True,
    }
    mail = read_mail({"kind": "bounce", "bounce": fields})
    assert mail.bounce == Bounce(**fields)  # type: ignore[arg-type]
    assert mail_fields(mail)["bounce"] == fields
    assert read_mail({"bounce": {"status": "5.1.1"}}).bounce == Bounce(status="5.1.1")


def test_addresses_of_the_envelope_have_the_shape_of_all_others() -> None:
    fields = {
        "return_path": {"name": "", "address": "ann@a.example"},
        "delivered_to": [{"name": "Desk", "address": "desk+7@b.example", "tag": "7"}],
    }
    mail = read_mail(fields)
    assert mail.return_path == Address("", "ann@a.example")
    assert mail.delivered_to == (Recipient("Desk", "desk+7@b.example", "7"),)
    made = mail_fields(mail)
    assert [made["return_path"], *made["delivered_to"]] == [
        fields["return_path"],
        *fields["delivered_to"],
    ]


def test_the_null_return_path_is_not_one_that_nobody_noted() -> None:
    null = {"name": "", "address": ""}
    assert read_mail({"return_path": null}).return_path == Address("", "")
    assert read_mail({"return_path": None}).return_path is None
    assert read_mail({}).return_path is None
    assert mail_fields(read_mail({"return_path": null}))["return_path"] == null
