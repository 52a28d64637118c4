"""Receives the events of a forwarded handler and verifies them, with the standard library alone.

WEBHOOK_SECRET=whsec_… python webhook_receiver.py [port]

What is signed, and how: https://www.standardwebhooks.com/ (its library does `verify` below too).
"""

import base64
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
seen = set()  # in earnest: a table, in the transaction of what the event leads to


def verify(headers, body):
    """Whether Posthouse posted this within the last five minutes."""
    identifier, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    signed = f"{identifier}.{timestamp}.".encode() + body
    wanted = base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
    given = [part.removeprefix("v1,") for part in headers["webhook-signature"].split()]
    fresh = abs(time.time() - int(timestamp)) < 300
    return fresh and any(hmac.compare_digest(wanted, one) for one in given)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            verified = verify(self.headers, body)
        except (KeyError, TypeError, ValueError, AttributeError):
            verified = False
        if verified and self.headers["webhook-id"] not in seen:  # a repeat has the same id
            headers = json.loads(body)["data"]["headers"]
            print(f"{headers['from']}: {headers['subject']}", flush=True)
            seen.add(self.headers["webhook-id"])
        # Any 2xx acknowledges; anything else, and the event comes again.
        self.send_response(204 if verified else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
