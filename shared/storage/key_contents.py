"""Mails that are known by a key of the server's (POP3, Graph), rebound by their content when every
key changed: after a migration, or when a server began to form its keys in another way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from shared.clock import new_id
from shared.storage.arrays import octets_array, text_array
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import key_digest
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("key_contents")


@dataclass(frozen=True, slots=True)
class Rebound:
    """Keys of mails that were known under other ones, and those of them (`unsettled`) that we had
    deleted, or that were still to be settled."""

    keys: Set[str] = frozenset()
    unsettled: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Vanished:
    """What a key named that the server had no more, or may have no more: the digest that recognises
    the mail (empty where none was kept), and whether we `deleted` it; None where that is not known.
    """

    content: bytes
    deleted: bool | None
    #: The server listed the key all the time, and may have given it to another mail.
    listed: bool = False


def rebind_keys(
    session: Session,
    folder_ref: FolderRef,
    listed: Sequence[str],
    digests: Mapping[str, bytes],
    *,
    just_now: bool = False,
) -> Rebound:
    """Which of the new mails (key → header digest) are known under a key that is not `listed`;
    `just_now`: that was listed the last time.

    Each earlier mail stands for one mail at most. Those that are found become known under their
    new keys, together with what was still to be settled.
    """
    if not digests:
        return Rebound()
    columns = folder_ref.columns()
    now = [key_digest(key) for key in {*listed, *digests}]
    # Not prepared, as in `known.rebind`: only a plan that sees the arrays hashes them.
    rows = session.execute(
        _SQL["earlier"],
        {
            **columns,
            "contents": list(set(digests.values())),
            "listed": now,
            "vanished": not just_now,
        },
        prepare=False,
    ).fetchall()
    earlier: dict[bytes, list[tuple[bool, bytes]]] = defaultdict(list)
    # Of equal mails those first that are not deleted.
    for digest, content, deleted in sorted(rows, key=lambda row: not row[2]):
        earlier[bytes(content)].append((deleted, bytes(digest)))
    moved = {key: earlier[content].pop() for key, content in digests.items() if earlier[content]}
    if not moved:
        return Rebound()
    session.execute(_SQL["give_up"], {**columns, "digests": [old for _, old in moved.values()]})
    add_contents(session, folder_ref, {key: digests[key] for key in moved})
    waiting = _move_settlements(session, folder_ref, {old: key for key, (_, old) in moved.items()})
    again = {key for key, (deleted, _) in moved.items() if deleted}
    settle_again(session, folder_ref, again - waiting)
    return Rebound(set(moved), again | waiting)


def reappeared(
    session: Session, folder_ref: FolderRef, listed: Sequence[str]
) -> dict[str, Vanished]:
    """Which of the listed keys the server had no more for a while, and what they named."""
    by_digest = {key_digest(key): key for key in listed}
    if not by_digest:
        return {}
    rows = session.execute(_SQL["vanished"], {**folder_ref.columns(), "digests": list(by_digest)})
    return {
        by_digest[key]: Vanished(bytes(content or b""), deleted) for key, content, deleted in rows
    }


def listed_before(
    session: Session, folder_ref: FolderRef, keys: Sequence[str]
) -> dict[str, Vanished]:
    """What those keys named whose mails were fetched, and that the server listed last time too."""
    by_digest = {key_digest(key): key for key in keys}
    if not by_digest:
        return {}
    rows = session.execute(
        _SQL["listed_before"], {**folder_ref.columns(), "digests": list(by_digest)}
    )
    return {by_digest[key]: Vanished(bytes(content or b""), False, True) for key, content in rows}


def keep_vanished(session: Session, folder_ref: FolderRef, keys: Iterable[str]) -> None:
    """These keys are listed again, and what they name is still to be compared: not forgotten, as
    vanished keys are after a while."""
    digests = [key_digest(key) for key in keys]
    session.execute(_SQL["keep_vanished"], {**folder_ref.columns(), "digests": digests})


def contents(session: Session, folder_ref: FolderRef, keys: Sequence[str]) -> dict[str, bytes]:
    """The header digests of the mails that these keys named, where they were fetched."""
    by_digest = {key_digest(key): key for key in keys}
    rows = session.execute(_SQL["contents"], {**folder_ref.columns(), "digests": list(by_digest)})
    return {by_digest[bytes(key)]: bytes(content) for key, content in rows}


def give_up_settling(session: Session, folder_ref: FolderRef, keys: Sequence[str]) -> None:
    """These mails were to be settled, and are not on the server under these keys any more: where
    they come back, they are as good as deleted."""
    digests = [key_digest(key) for key in keys]
    session.execute(_SQL["to_be_deleted"], {**folder_ref.columns(), "digests": digests})
    session.execute(_SQL["give_up_settling"], {**folder_ref.columns(), "keys": text_array(keys)})


def retire_keys(session: Session, folder_ref: FolderRef, keys: Sequence[str]) -> None:
    """These keys name other mails now: what they named stays known by its content alone."""
    values = {**folder_ref.columns(), "digests": [key_digest(key) for key in keys]}
    session.execute(_SQL["drop_retired"], values)
    session.execute(_SQL["retire_keys"], values)


def settle_again(session: Session, folder_ref: FolderRef, keys: Iterable[str]) -> None:
    """These mails were settled, and are on their server as before."""
    if wanted := sorted(keys):
        session.execute(
            _SQL["settle_again"],
            {**folder_ref.columns(), "keys": text_array(wanted), "message_id": new_id()},
        )


def add_contents(session: Session, folder_ref: FolderRef, contents: Mapping[str, bytes]) -> None:
    """Adds keys to the known set, with the digests of their mails' headers."""
    if contents:
        # In order, so that two that write at the same time do not wait for each other.
        rows = sorted((key_digest(key), content) for key, content in contents.items())
        session.execute(
            _SQL["add"],
            {
                **folder_ref.columns(),
                "digests": octets_array(digest for digest, _ in rows),
                "contents": octets_array(content for _, content in rows),
            },
        )


def _move_settlements(
    session: Session, folder_ref: FolderRef, moved: Mapping[bytes, str]
) -> set[str]:
    """Returns the new keys of those that wait."""
    rows = session.execute(_SQL["settlements"], folder_ref.columns()).fetchall()
    old_keys, new_keys = [], []
    for (native_key,) in rows:
        new = moved.get(key_digest(native_key))
        if new is not None:
            old_keys.append(native_key)
            new_keys.append(new)
    if old_keys:
        session.execute(
            _SQL["move_settlements"],
            {**folder_ref.columns(), "old_keys": old_keys, "new_keys": new_keys},
        )
    return set(new_keys)
