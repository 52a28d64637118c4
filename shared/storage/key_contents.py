"""Mails that are known by a key of the server's (POP3, Graph), told by their content when every
key changed: after a migration, or when a server began to form its keys in another way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from shared.storage.arrays import octets_array
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import key_digest
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("key_contents")


def rebind_keys(
    session: Session, place: FolderRef, listed: Sequence[str], digests: Mapping[str, bytes]
) -> set[str]:
    """Which of the new mails (key → header digest) are known under a key that is not `listed`.

    Each earlier mail stands for one mail at most. Those that are found become known under their
    new keys, together with what was still to be settled.
    """
    if not digests:
        return set()
    columns = place.columns()
    now = [key_digest(key) for key in {*listed, *digests}]
    # Not prepared, as in `known.rebind`: only a plan that sees the arrays hashes them.
    rows = session.execute(
        _SQL["earlier"],
        {**columns, "contents": list(set(digests.values())), "listed": now},
        prepare=False,
    ).fetchall()
    earlier: dict[bytes, list[bytes]] = defaultdict(list)
    for digest, content in rows:
        earlier[bytes(content)].append(bytes(digest))
    moved = {key: earlier[content].pop() for key, content in digests.items() if earlier[content]}
    if not moved:
        return set()
    session.execute(_SQL["give_up"], {**columns, "digests": list(moved.values())})
    add_contents(session, place, {key: digests[key] for key in moved})
    _move_settlements(session, place, {old: key for key, old in moved.items()})
    return set(moved)


def reappeared(session: Session, place: FolderRef, listed: Sequence[str]) -> dict[str, bytes]:
    """Which of the listed keys the server had no more for a while, with the header digest of the
    mail that they named; empty where none was kept."""
    by_digest = {key_digest(key): key for key in listed}
    if not by_digest:
        return {}
    rows = session.execute(_SQL["vanished"], {**place.columns(), "digests": list(by_digest)})
    return {by_digest[key]: bytes(content or b"") for key, content in rows}


def keep_vanished(session: Session, place: FolderRef, keys: Iterable[str]) -> None:
    """These keys are listed again, and what they name is still to be compared: not forgotten, as
    vanished keys are after a while."""
    digests = [key_digest(key) for key in keys]
    session.execute(_SQL["keep_vanished"], {**place.columns(), "digests": digests})


def set_aside(session: Session, place: FolderRef, keys: Sequence[str]) -> None:
    """These keys name other mails now: what they named stays known by its content alone."""
    values = {**place.columns(), "digests": [key_digest(key) for key in keys]}
    session.execute(_SQL["drop_aside"], values)
    session.execute(_SQL["set_aside"], values)


def add_contents(session: Session, place: FolderRef, contents: Mapping[str, bytes]) -> None:
    """Adds keys to the known set, with the digests of their mails' headers."""
    if contents:
        # In order, so that two that write at the same time do not wait for each other.
        rows = sorted((key_digest(key), content) for key, content in contents.items())
        session.execute(
            _SQL["add"],
            {
                **place.columns(),
                "digests": octets_array(digest for digest, _ in rows),
                "contents": octets_array(content for _, content in rows),
            },
        )


def _move_settlements(session: Session, place: FolderRef, moved: Mapping[bytes, str]) -> None:
    rows = session.execute(_SQL["settlements"], place.columns()).fetchall()
    old_keys, new_keys = [], []
    for (native_key,) in rows:
        new = moved.get(key_digest(native_key))
        if new is not None:
            old_keys.append(native_key)
            new_keys.append(new)
    if old_keys:
        session.execute(
            _SQL["move_settlements"],
            {**place.columns(), "old_keys": old_keys, "new_keys": new_keys},
        )
