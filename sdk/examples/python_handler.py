"""A handler in Python with the SDK: opens a ticket, attaches files, threads replies, and never
answers a machine.

pip install 'posthouse[redis]'    (or 'posthouse[rabbitmq]')
export POSTHOUSE_URL=https://posthouse.example.com
export POSTHOUSE_HANDLER_TOKEN=... POSTHOUSE_SIGNING_KEY=...   (shown when the handler is made)
python python_handler.py redis://127.0.0.1:6379/0 my-handler tickets
"""

import hashlib
import logging
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from posthouse import Consumer, MailEvent, NoSuchPart, Retry
from posthouse.inbox import create_table, is_first_time

url, handler, folder = sys.argv[1:]
Path(folder).mkdir(exist_ok=True)


def handle(event: MailEvent) -> None:
    """Returning acknowledges the event. It may come again: the inbox knows it then, and lets
    through what somebody asked for once more."""
    with closing(sqlite3.connect(f"{folder}/tickets.db", timeout=60)) as tickets, tickets:
        if not is_first_time(tickets, event.idempotency_key):
            return
        # One ticket a thread, whose id is the sender's word: no name for a folder.
        thread = hashlib.sha256((event.mail.thread or event.id).encode()).hexdigest()[:16]
        ticket = Path(folder, thread)
        ticket.mkdir(exist_ok=True)
        for attachment in event.attachments:
            try:
                attachment.save(ticket)
            except OSError as error:
                raise Retry(60, f"an attachment cannot be had now: {error}") from error
            except NoSuchPart as error:
                logging.warning("%s has no %s: %s", event.id, attachment.name, error)
        with (ticket / "conversation.txt").open("a") as conversation:
            print(f"{event.headers.sender}: {event.headers.subject}", file=conversation)
            print(event.mail.reply_text or event.text, file=conversation)
        print(f"{event.headers.sender}: {event.headers.subject} ({event.mail.kind})", flush=True)
        if event.security.encrypted:
            print(f"  encrypted: {event.security.status}", flush=True)
        if not event.is_automatic:
            print(f"  would answer with {event.reply_headers()}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    with closing(sqlite3.connect(f"{folder}/tickets.db")) as tickets, tickets:
        create_table(tickets)
    Consumer(url, handler).run(handle)
