-- The ledger: what was downloaded, what the server has still to hear of, what is known.

-- name: held
-- Of the batches that are to be committed, those whose lease is held. Its row is locked against a
-- take-over until the commit. Leases before states, each in its order, as everywhere.
SELECT p.connection_id, p.count
FROM (SELECT * FROM unnest(%(mailboxes)s::text[], %(fences)s::bigint[], %(connections)s::bigint[],
                           %(counts)s::bigint[]) LIMIT ALL)
     AS p(mailbox, fence, connection_id, count)
JOIN lease AS l ON l.mailbox = p.mailbox AND l.fence = p.fence
WHERE l.owner = %(owner)s
ORDER BY l.mailbox
FOR SHARE OF l

-- name: states
SELECT s.connection_id, held.count
FROM held JOIN connection_state AS s ON s.connection_id = held.connection_id
ORDER BY s.connection_id
FOR NO KEY UPDATE OF s

-- name: number
-- As many new numbers as there are mails; what it returns is the last one.
UPDATE connection_state AS s SET sequence = s.sequence + states.count
FROM states WHERE s.connection_id = states.connection_id

-- name: begin_batches
WITH held AS MATERIALIZED (
    {held}
), states AS MATERIALIZED (
    {states}
)
{number}
RETURNING s.connection_id, s.sequence, now();

-- name: copy_messages
COPY message (connection_id, folder, uid_validity, correlation_id, id, native_key, sequence, size,
    sha256, raw_key, raw_offset, message_id, sender, recipients, cc, subject, sent_at, arrived_at,
    downloaded_at, sender_name, recipient_names, cc_names, findings, provider_thread, labels,
    terms)
FROM STDIN;

-- name: following
-- What follows from `mail`, which is in the ledger: it is to be published, its server to be told, and
-- it is known. One of an IMAP server, which has a UIDVALIDITY, also by its content.
publishing AS (
    INSERT INTO outbox (message_id, connection_id, next_attempt_at)
    SELECT id, connection_id, now() + make_interval(secs => %(grace)s) FROM mail
), settling AS (
    INSERT INTO settlement (connection_id, folder, uid_validity, native_key, message_id)
    SELECT connection_id, folder, coalesce(uid_validity, 0), native_key, id FROM mail
    ON CONFLICT DO NOTHING
), recognising AS (
    INSERT INTO known_content
        (connection_id, folder, uid_validity, uid, digest, gmail_id, message_id)
    SELECT connection_id, folder, uid_validity, native_key::bigint, digest, gmail_id, id
    FROM mail WHERE uid_validity <> 0
    ON CONFLICT DO NOTHING
)

-- name: know
INSERT INTO known_uid AS k (connection_id, folder, uid_validity, uids)
SELECT connection_id, folder, uid_validity,
       range_agg(int8range(native_key::bigint, native_key::bigint, '[]'))
FROM mail WHERE uid_validity <> 0
GROUP BY connection_id, folder, uid_validity
ORDER BY connection_id, folder, uid_validity
ON CONFLICT (connection_id, folder, uid_validity) DO UPDATE SET uids = k.uids + excluded.uids

-- name: record_batches
WITH mail AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)s::uuid[], %(connections)s::bigint[], %(folders)s::text[],
                         %(uid_validities)s::bigint[], %(native_keys)s::text[],
                         %(digests)s::bytea[], %(gmail_ids)s::bigint[])
        AS m(id, connection_id, folder, uid_validity, native_key, digest, gmail_id)
), {following}
{know};

-- name: restrict_outbox
-- Only these handlers may have this mail: others had it under another label.
UPDATE outbox SET initial = false, asked_handlers = %(handlers)s::bigint[],
    had_handlers = %(had)s::bigint[]
WHERE message_id = %(id)s;

-- name: unsettled
-- What could only be flagged waits a while before the server is asked to remove it again.
SELECT native_key FROM settlement
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s
  AND (flagged_at IS NULL OR flagged_at < now() - interval '10 minutes')
ORDER BY message_id LIMIT %(limit)s;

-- name: flagged
SELECT native_key FROM settlement
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s AND flagged_at IS NOT NULL;

-- name: has_flagged_elsewhere
SELECT EXISTS (SELECT FROM settlement
    WHERE connection_id = %(connection_id)s AND folder = %(folder)s
      AND uid_validity <> %(uid_validity)s AND flagged_at IS NOT NULL);

-- name: record_flagged
UPDATE settlement SET flagged_at = now()
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s AND native_key = ANY(%(native_keys)s::text[]);

-- name: count_flagged
SELECT count(*) FROM settlement WHERE connection_id = %(connection_id)s AND flagged_at IS NOT NULL;

-- name: settling
-- What a `settled` begins with. Joined by the whole key: with its first columns alone compared to
-- constants, every open settlement of the folder would be compared with every key.
told AS MATERIALIZED (
    SELECT * FROM unnest(%(connections)s::bigint[], %(folders)s::text[],
                         %(uid_validities)s::bigint[], %(native_keys)s::text[])
        AS t(connection_id, folder, uid_validity, native_key)
    LIMIT ALL
), gone AS (
    DELETE FROM settlement AS s USING told
    WHERE (s.connection_id, s.folder, s.uid_validity, s.native_key)
        = (told.connection_id, told.folder, told.uid_validity, told.native_key)
    RETURNING s.message_id
)

-- name: settled
UPDATE message SET settled_at = now(), settled_as = %(settled_as)s
WHERE id = ANY(ARRAY(SELECT message_id FROM gone))

-- name: add_uids
INSERT INTO known_uid AS k (connection_id, folder, uid_validity, uids)
SELECT %(connection_id)s, %(folder)s, %(uid_validity)s,
       coalesce(range_agg(int8range(uid, uid, '[]')), '{}')
FROM unnest(%(uids)s::bigint[]) AS uid
ON CONFLICT (connection_id, folder, uid_validity) DO UPDATE SET uids = k.uids + excluded.uids;

-- name: unknown_uids
SELECT uid FROM unnest(%(uids)s::bigint[]) WITH ORDINALITY AS listed(uid, n)
WHERE NOT uid <@ coalesce((
    SELECT uids FROM known_uid
    WHERE connection_id = %(connection_id)s AND folder = %(folder)s
      AND uid_validity = %(uid_validity)s), '{}'::int8multirange)
ORDER BY n;

-- name: count_uids
SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM known_uid, unnest(uids) AS r
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s;

-- name: forget_uids
UPDATE known_uid
SET uids = uids - (SELECT range_agg(int8range(uid, uid, '[]')) FROM unnest(%(uids)s::bigint[]) AS uid)
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND uid_validity = %(uid_validity)s;

-- name: add_keys
INSERT INTO known_key (connection_id, folder, digest)
SELECT %(connection_id)s, %(folder)s, digest FROM unnest(%(digests)s::bytea[]) AS digest
ON CONFLICT (connection_id, folder, digest) DO UPDATE SET vanished_on = NULL, deleted = NULL;

-- name: known_keys
-- One look into the index for each. `digest = ANY(...)` was a filter over all keys of the mailbox once
-- the plan was cached: 40 s for 50,000 of 50,000.
SELECT digest FROM unnest(%(digests)s::bytea[]) AS asked(digest) CROSS JOIN LATERAL (
    SELECT FROM known_key AS k
    WHERE k.connection_id = %(connection_id)s AND k.folder = %(folder)s
      AND k.digest = asked.digest
    LIMIT 1) AS known;

-- name: count_keys
SELECT count(*) FROM known_key
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND vanished_on IS NULL;

-- name: forget_keys
DELETE FROM known_key
WHERE connection_id = %(connection_id)s AND folder = %(folder)s AND digest = ANY(%(digests)s);

-- name: vanish_keys
-- Deleted on the server by ourselves: not counted any more, and for a while still known. Joined by
-- the whole key, as in `settled`.
WITH deleted AS MATERIALIZED (
    SELECT * FROM unnest(%(connections)s::bigint[], %(folders)s::text[], %(digests)s::bytea[])
        AS d(connection_id, folder, digest)
)
UPDATE known_key AS k SET vanished_on = current_date, deleted = true FROM deleted AS d
WHERE (k.connection_id, k.folder, k.digest) = (d.connection_id, d.folder, d.digest);

-- name: prune_keys
-- Keys that the server lists no longer. They are kept for a while: a server that shows an empty
-- mailbox for an hour must not make every mail in it new.
--
-- A subquery that is hashed (given room for it, see `prune`), whatever Postgres believes about a table
-- that just grew by thousands: a join of the two was a nested loop then, 25 million comparisons for
-- 5,000 keys.
UPDATE known_key
SET vanished_on = CASE WHEN vanished_on IS NULL THEN current_date END,
    deleted = CASE WHEN vanished_on IS NULL THEN false END
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND (vanished_on IS NULL) = (digest NOT IN (SELECT unnest(%(digests)s::bytea[])));

-- name: room_to_hash
SELECT set_config('work_mem', '128MB', true);

-- name: drop_vanished_keys
DELETE FROM known_key
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND vanished_on < current_date - %(days)s::integer;

-- name: forget_content
WITH deleted AS MATERIALIZED (
    SELECT * FROM unnest(%(connections)s::bigint[], %(folders)s::text[],
                         %(uid_validities)s::bigint[], %(uids)s::bigint[])
        AS d(connection_id, folder, uid_validity, uid)
)
DELETE FROM known_content AS k USING deleted AS d
WHERE (k.connection_id, k.folder, k.uid_validity, k.uid)
    = (d.connection_id, d.folder, d.uid_validity, d.uid);

-- name: prune_content
-- Against a multirange, which is searched: joined with an array of unknown length, a folder of
-- ten thousand mails would be compared pair by pair.
DELETE FROM known_content AS k
WHERE k.connection_id = %(connection_id)s AND k.folder = %(folder)s
  AND k.uid_validity = %(uid_validity)s
  AND NOT k.uid <@ (SELECT coalesce(range_agg(int8range(uid, uid, '[]')), '{}')
                    FROM unnest(%(uids)s::bigint[]) AS uid);

-- name: rebind
-- Known mails of an earlier UIDVALIDITY with one of these digests: (uid_validity, uid, digest).
SELECT uid_validity, uid, digest FROM known_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity <> %(uid_validity)s AND digest = ANY(%(digests)s)
ORDER BY uid_validity DESC, uid;

-- name: move_content
-- The same mails under their new UIDs; what was still to be settled moves with them.
WITH moved(old_validity, old_uid, new_uid) AS (
    SELECT * FROM unnest(%(old_validities)s::bigint[], %(old_uids)s::bigint[], %(new_uids)s::bigint[])
), settlements AS (
    UPDATE settlement AS t
    SET uid_validity = %(uid_validity)s, native_key = moved.new_uid::text
    FROM moved
    WHERE t.connection_id = %(connection_id)s AND t.folder = %(folder)s
      AND t.uid_validity = moved.old_validity AND t.native_key = moved.old_uid::text
)
UPDATE known_content AS k SET uid_validity = %(uid_validity)s, uid = moved.new_uid
FROM moved
WHERE k.connection_id = %(connection_id)s AND k.folder = %(folder)s
  AND k.uid_validity = moved.old_validity AND k.uid = moved.old_uid;

-- name: settle_rebound
-- In a folder made anew from an older state the mails are as they were before they were settled.
-- Of those that were packed it is not known any more which row of the ledger they had. (Ids tell how
-- long something waits: theirs is of now.)
INSERT INTO settlement (connection_id, folder, uid_validity, native_key, message_id)
SELECT connection_id, folder, uid_validity, uid::text,
       coalesce(message_id, %(unknown)s) FROM known_content
WHERE connection_id = %(connection_id)s AND folder = %(folder)s
  AND uid_validity = %(uid_validity)s AND uid = ANY(%(uids)s)
ON CONFLICT DO NOTHING;

-- name: unpack
-- Mails that were packed, under their new UIDs.
INSERT INTO known_content (connection_id, folder, uid_validity, uid, digest)
SELECT %(connection_id)s, %(folder)s, %(uid_validity)s, uid, digest
FROM unnest(%(uids)s::bigint[], %(digests)s::bytea[]) AS c(uid, digest)
ON CONFLICT DO NOTHING;

-- name: drop_stale_settlements
-- Mails of an earlier UIDVALIDITY that are gone from the folder need no settling any more. Those that
-- were not seen yet may still be copied to it, as in `end_rebinding` (scheduling.sql); but for what was
-- flagged every look costs all headers.
WITH gone AS (
    DELETE FROM settlement AS t USING connection_state AS s
    WHERE t.connection_id = %(connection_id)s AND t.folder = %(folder)s
      AND t.uid_validity <> %(uid_validity)s AND s.connection_id = t.connection_id
      AND (t.flagged_at IS NOT NULL
           OR s.validity_changed_at < now() - make_interval(days => %(days)s))
    RETURNING t.message_id
)
UPDATE message SET settled_at = now(), settled_as = 'vanished'
WHERE id = ANY(ARRAY(SELECT message_id FROM gone));

-- name: insert_runs
INSERT INTO fetch_run (id, connection_id, duration_ms, found, downloaded, bytes)
SELECT * FROM unnest(%(runs)s::uuid[], %(run_connections)s::bigint[], %(run_durations)s::integer[],
                     %(found)s::integer[], %(downloaded)s::integer[], %(octets)s::bigint[])

-- name: insert_run
INSERT INTO fetch_run (id, connection_id, duration_ms, found, downloaded, bytes, error)
VALUES (%(id)s, %(connection_id)s, %(duration_ms)s, %(found)s, %(downloaded)s, %(bytes)s, %(error)s);
