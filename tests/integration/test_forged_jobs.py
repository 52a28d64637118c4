"""Who holds the broker of the jobs can cost polls, and neither lose a mail nor send one."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import redis

from shared.jobs import DECRYPT_ACTOR, DECRYPT_QUEUE, FETCH_ACTOR, FETCH_QUEUE
from shared.queueing.broker import Job, build_broker, enqueue_many
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

MAILS = 60


def test_forged_and_deleted_jobs_lose_no_mail_and_deliver_none(
    dovecot: Dovecot, mail_user: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    sent = [mail(number, 400, seed=71) for number in range(MAILS)]
    dovecot.deliver(mail_user, sent[: MAILS // 2])
    other = f"{mail_user}-disabled"
    dovecot.deliver(other, [mail(999, 400, seed=72)])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.add_handler("chosen", connections=[])
    disabled = stack.watch(dovecot, other)
    stack.execute(f"UPDATE connection SET enabled = false WHERE id = {disabled}")
    stack.execute(
        f"UPDATE connection_state SET due_at = NULL WHERE connection_id = {disabled}",
    )
    stack.start("scheduler", "fetcher", "decryptor")
    watched = stack.watch(dovecot, mail_user)
    stack.wait_settled(MAILS // 2)
    published = [str(row[0]) for row in stack.query("SELECT id FROM message")]
    jobs = build_broker(redis_url, queues=[FETCH_QUEUE, DECRYPT_QUEUE])
    nobody = [str(uuid.uuid4()) for _ in range(20)]
    enqueue_many(
        jobs,
        [
            Job(FETCH_QUEUE, FETCH_ACTOR, ([disabled, watched, 10**12], str(uuid.uuid4()))),
            Job(DECRYPT_QUEUE, DECRYPT_ACTOR, ([*published, *nobody], str(uuid.uuid4()))),
            Job(DECRYPT_QUEUE, DECRYPT_ACTOR, (["no id at all"], "x")),
            Job(FETCH_QUEUE, FETCH_ACTOR, ("not a list", 7)),
        ],
    )
    dovecot.deliver(mail_user, sent[MAILS // 2 :])
    with redis.Redis.from_url(redis_url) as client:

        def all_came() -> bool:
            for key in client.scan_iter("dramatiq:*"):
                client.delete(key)  # every job that is there at this moment
            stack.hasten()
            return stack.count("delivery") >= MAILS

        stack.wait(all_came, "the mails come in spite of it", 120)
    stack.wait_settled(MAILS)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted({event["id"]: event["data"]["sha256"] for event in events}.values()) == digests(
        sent
    )
    assert open_queue(redis_url, "chosen").events() == []
    runs = stack.query(
        "SELECT last_run_at FROM connection_state WHERE connection_id = %s", disabled
    )
    assert runs == [(None,)]
