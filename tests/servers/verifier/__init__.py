"""Standard Webhooks' verifier from npm, installed by the integrity in `package-lock.json`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.npm import installed
from tests.servers.webhooks import Received

_HERE = Path(__file__).parent


def verified(requests: Sequence[tuple[str, Received]]) -> list[str]:
    """For each (secret, request) `true`, or why it is refused."""
    folder = installed(_HERE, [_HERE / "verify.mjs"])
    lines = [
        json.dumps({"secret": secret, "headers": one.headers, "body": one.body.decode()})
        for secret, one in requests
    ]
    told = subprocess.run(
        ["node", str(folder / "verify.mjs")],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return told.stdout.splitlines()
