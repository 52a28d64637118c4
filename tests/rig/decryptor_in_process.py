"""A decryptor in the test's own process, for tests that say which jobs it gets, and when."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from services.decryptor.main import Decryptor, build
from services.decryptor.settings import DecryptorSettings
from tests.rig.stack import Stack


@contextlib.contextmanager
def decryptor_here(stack: Stack) -> Iterator[Decryptor]:
    """The decryptor of a stack, with the queue of its handler `archive`."""
    known = DecryptorSettings.model_fields
    environment = {
        name.removeprefix("POSTHOUSE_").lower(): value
        for name, value in stack.environment_of("decryptor").items()
    }
    settings = {name: value for name, value in environment.items() if name in known}
    decryptor = build(DecryptorSettings(**settings))  # type: ignore[arg-type]
    with decryptor.database:
        decryptor.output.ensure("archive", str(uuid.uuid4()))
        try:
            yield decryptor
        finally:
            decryptor.output.close()
