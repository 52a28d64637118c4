"""A handler in Python with the SDK: prints every mail, puts off one that it cannot handle yet.

pip install 'posthouse[redis]'    (or 'posthouse[rabbitmq]')
python python_handler.py redis://127.0.0.1:6379/0 my-handler
"""

import email
import email.policy
import logging
import sys

from posthouse import Consumer, MailEvent, Reject, Retry


def handle(event: MailEvent) -> None:
    """Returning acknowledges the event. `event.id` is the same whenever a mail comes again: keep
    it beside what you make of the mail, and making it twice is easily avoided."""
    try:
        raw = event.raw_bytes()  # fetched with POSTHOUSE_HANDLER_TOKEN where it is large
    except OSError as error:
        raise Retry(60, f"the mail cannot be fetched now: {error}") from error
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    if mail["Auto-Submitted"] not in {None, "no"}:
        raise Reject("an answer of a machine")
    body = mail.get_body(("plain", "html"))
    text = body.get_content().strip().splitlines() if body is not None else []
    print(f"{event.headers.sender}: {event.headers.subject}", flush=True)
    print(f"  {text[0] if text else '(empty)'}", flush=True)
    if event.security.encrypted:
        print(f"  encrypted: {event.security.status}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    url, handler = sys.argv[1:]
    Consumer(url, handler).run(handle)
