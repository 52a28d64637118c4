"""`data.mail` of an event as the SDK has it, and back."""

from __future__ import annotations

import pytest

from posthouse.mail import Bounce, mail_fields, read_mail

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
