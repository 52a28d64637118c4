"""What is downloaded: into a file, into a pipe as it is, or harmless onto a terminal."""

from __future__ import annotations

import codecs
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InvalidInput
from shared.untrusted_text import shown


def write(chunks: Iterator[bytes], output: Path | None) -> None:
    """To `output`, in place of what is there; None: standard output, which a terminal gets as text
    without the controls that a stranger wrote.

    A file is opened when the first octets came; one that came by half is removed. Raises
    InvalidInput where it cannot be written, and what `chunks` raises.
    """
    if output is not None:
        _to_file(chunks, output)
    elif sys.stdout.isatty():
        _to_terminal(chunks)
    else:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _to_terminal(chunks: Iterator[bytes]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        sys.stdout.write(shown(decoder.decode(chunk)))
    sys.stdout.write(shown(decoder.decode(b"", final=True)))
    sys.stdout.flush()


def _to_file(chunks: Iterator[bytes], path: Path) -> None:
    first = next(chunks, b"")
    try:
        file = path.open("wb")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with file:
            file.write(first)
            for chunk in chunks:
                file.write(chunk)
    except BaseException as error:
        if stat.S_ISREG(path.lstat().st_mode):  # and no device, pipe, or link such as /dev/stdout
            path.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"{path} cannot be written: {error.strerror}.", field="output")
