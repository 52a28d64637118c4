"""Work on what a stranger made, in a process of its own that ends when it takes too much.

A key file says itself how long its password is to be worked on: iterations without an end (PBKDF2,
PKCS #12), gigabytes of memory (scrypt, Argon2). The libraries do what it says, some of them holding
up every thread meanwhile, and no thread of this process could be stopped.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, cast

from shared.errors import PosthouseError, TryAgain

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds of a processor, octets of address space, and seconds on a machine that is busy. An honest
#: file needs a tenth of the time and 64 MiB, and a quarter more where Argon2 protects it.
_PROCESSOR_S = 5
_ADDRESS_SPACE: Final = 256 << 20
_WALL_S: Final = 60
#: One at a time, so that the memory of a pod is enough; so many may wait, for each is a thread.
_AT_A_TIME: Final = threading.Lock()
_PLACES: Final = threading.BoundedSemaphore(4)
#: All that the process gets of the environment, which holds keys and passwords.
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG")


class TookTooMuch(PosthouseError):
    """The work was ended before it was done."""

    code = "took-too-much"


def in_bounds(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module gives, or the PosthouseError that it raises.

    Arguments and result are pickled: values, nothing that is open. Raises TookTooMuch, and TryAgain
    where others wait already.
    """
    if not _PLACES.acquire(blocking=False):
        raise TryAgain(
            "Several key files are being read at this moment.",
            hint="Try again in a moment.",
            retry_after=5,
        )
    try:
        with _AT_A_TIME:
            return _run(function, args, kwargs)
    finally:
        _PLACES.release()


def _run(function: Callable[..., T], args: Any, kwargs: Any) -> T:
    request = pickle.dumps((_PROCESSOR_S, function, args, kwargs))
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "shared.bounded_process"],
            input=request,
            capture_output=True,
            env=environment,
            timeout=_WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TookTooMuch(f"It was not done within {_WALL_S} s.") from error
    if done.returncode != 0:
        # By a signal, or an error that a library makes of memory that it does not get.
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise TookTooMuch(f"The work ended with {done.returncode}: {last}")
    result = pickle.loads(done.stdout)  # noqa: S301 (written by `main`)
    if isinstance(result, PosthouseError):
        raise result
    return cast("T", result)


def main() -> None:
    """The process: reads a function with its arguments, writes its result."""
    seconds, function, args, kwargs = pickle.load(sys.stdin.buffer)  # noqa: S301 (`in_bounds`)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no file of it holds a key
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    try:
        result = function(*args, **kwargs)
    except PosthouseError as error:
        error.__cause__ = error.__context__ = None
        result = error
    pickle.dump(result, sys.stdout.buffer)


if __name__ == "__main__":
    main()
