"""Mails that are compared in their commit are compared where others are committed beside them, too.

For an administrator: nothing fails, and no mail comes twice.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.rig.together import MAILS, Mailboxes
from tests.servers.dovecot import Dovecot
from tests.servers.gmail import GmailFront
from tests.servers.pop3_rules import RuledPop3


@pytest.mark.promise("I2", "I5")
def test_mails_that_were_away_for_a_while_do_not_come_again(
    redis_url: str,
    pop3_without_top: RuledPop3,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Their unique ids may name new mails now, and headers cannot be asked for before."""
    mailboxes = Mailboxes(build_stack(redis_url), pop3_without_top, mail_user, "pop3")
    stays = [mail(number, 500, seed=74) for number in range(len(MAILS))]
    for user, content in zip(mailboxes.users, stays, strict=True):
        pop3_without_top.deliver(user, [content])
    with mailboxes.here.working():
        mailboxes.fetch()
        for hidden in (True, False):
            for user in mailboxes.users:
                pop3_without_top.stored(user)[0].hidden = hidden
            if hidden:
                for connection in mailboxes.ids:
                    mailboxes.here.run(connection)
        mailboxes.fetch()
        assert mailboxes.here.had() == digests([*MAILS, *stays])


@pytest.mark.promise("I3", "I5")
def test_a_mail_under_two_labels_of_gmail_comes_once(
    redis_url: str,
    dovecot: Dovecot,
    gmail: GmailFront,
    gmail_dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Both labels have it ready as the mail of another mailbox is committed."""
    mailboxes = Mailboxes(build_stack(redis_url), dovecot, mail_user)
    user = f"{mail_user}-gmail"
    gmail_dovecot.deliver(user, [MAILS[1]])
    with gmail_dovecot.client(user) as other:
        other.create_folder("Support")
        other.select_folder("INBOX", readonly=True)
        other.copy(other.search("ALL"), "Support")
    labels = [
        mailboxes.stack.add_plain_connection(
            gmail.port, name=f"label {folder}", mode="imap", username=user, folder=folder
        )
        for folder in ("", "Support")
    ]
    mailboxes.ids[1:] = labels
    with mailboxes.here.working():
        mailboxes.fetch()
        assert mailboxes.here.had() == digests(MAILS[:2])
