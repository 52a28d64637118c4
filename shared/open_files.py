"""How many files, and so sockets, a process may have open."""

from __future__ import annotations

import resource


def raise_open_files_limit() -> None:
    """As many as the system lets this process have: what is usual is too few for a service that
    holds a connection for each mailbox or endpoint."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
