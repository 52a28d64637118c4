-- Mails that are safe here and not yet published to every handler that takes them.

-- name: is_due
SELECT EXISTS (
    SELECT FROM outbox
    WHERE next_attempt_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY next_attempt_at LIMIT 1)

-- name: due
-- What was not published in time, moved to its next turn: later and later, as the job may merely
-- wait in a long queue. `alone` where a crash may have been this mail's fault.
WITH late AS (
    SELECT message_id FROM outbox
    WHERE next_attempt_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY next_attempt_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox AS o
SET emissions = o.emissions + 1,
    next_attempt_at = now() + make_interval(secs =>
        least(600, 30 * power(2, least(o.emissions, 5))) * (0.75 + 0.5 * random()))
FROM late WHERE o.message_id = late.message_id
RETURNING o.message_id, o.attempts > 1;

-- name: claim
-- Takes these mails for one decryptor. What somebody else holds, or is published, is left out.
-- Waits for rows that are locked (a job can be here before the scheduler that sent it committed):
-- skipping them would lose the job until it is sent again.
-- The columns of the last SELECT are the fields of `ClaimedRow`, in its order. `targets`: the handlers
-- of a mail that comes alone and that nobody began to publish, which spares `standing` of
-- `deliveries.sql`. Who waited here for a lock may not see the deliveries that the holder recorded
-- with it; but whoever gives a mail back says why (`error`).
-- The commit waits for no disk: a claim that a crash of Postgres takes back is of a mail that is in
-- hand, and such a mail comes again after a crash in any case.
WITH mine AS (
    SELECT message_id, set_config('synchronous_commit', 'off', true) FROM outbox
    WHERE message_id = ANY(%(ids)s::uuid[]) AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY message_id
    FOR UPDATE
), taken AS (
    UPDATE outbox AS o
    SET claim = %(claim)s, claimed_until = now() + make_interval(secs => %(ttl)s),
        attempts = o.attempts + 1, asked_while_claimed = '{}'
    WHERE o.message_id = ANY(ARRAY(SELECT message_id FROM mine))
    RETURNING o.message_id, o.attempts, o.initial, o.repeat_handlers, o.missing_since,
              o.asked_handlers, o.had_handlers, o.chosen, o.doubts, o.redeliveries, o.error
)
SELECT m.id, m.connection_id, m.sequence, m.size, m.sha256, m.raw_key, m.raw_offset,
       m.message_id, m.sender, m.recipients, m.cc, m.subject, m.sent_at,
       m.sender_name, m.recipient_names, m.cc_names, m.findings,
       m.downloaded_at, m.arrived_at, m.correlation_id, m.folder, m.provider_thread,
       m.labels,
       m.security, m.opened_key, m.opened_offset, m.opened_size, m.opened_sha256,
       taken.attempts, taken.initial, taken.repeat_handlers, taken.asked_handlers,
       taken.had_handlers, taken.chosen, taken.doubts, taken.redeliveries,
       extract(epoch FROM now() - taken.missing_since)::double precision AS missing_s,
       (SELECT c.updated_at FROM connection AS c WHERE c.id = m.connection_id)
           AS connection_version,
       CASE WHEN cardinality(%(ids)s::uuid[]) = 1 AND taken.attempts = 1 AND taken.error IS NULL
                 AND taken.initial AND taken.chosen IS NULL
                 AND taken.repeat_handlers || taken.asked_handlers || taken.had_handlers = '{}'
                 AND (SELECT d.message_id FROM delivery AS d
                      WHERE d.message_id = taken.message_id LIMIT 1) IS NULL
            THEN (SELECT json_agg(json_build_array(
                      h.id, h.name, encode(h.signing_key, 'base64'),
                      encode(h.former_signing_key, 'base64'), h.rules::text, h.group_name, h.position)
                      ORDER BY h.id)::text
                  FROM handler AS h
                  WHERE h.enabled AND (h.all_connections OR (
                      SELECT hc.handler_id FROM handler_connection AS hc
                      WHERE hc.handler_id = h.id AND hc.connection_id = m.connection_id) IS NOT NULL))
       END AS targets
FROM taken JOIN message AS m ON m.id = taken.message_id
WHERE m.id = ANY(ARRAY(SELECT message_id FROM taken))
ORDER BY m.raw_key, m.raw_offset;

-- name: renew
WITH mine AS (
    SELECT message_id FROM outbox
    WHERE claim = ANY(%(claims)s) AND message_id = ANY(%(ids)s::uuid[])
    ORDER BY message_id
    FOR UPDATE
)
UPDATE outbox AS o SET claimed_until = now() + make_interval(secs => %(ttl)s)
FROM mine WHERE o.message_id = mine.message_id;

-- name: hold
-- Those that are still ours, until the transaction ends. Whoever took a claim back (the queue was
-- lost, or the mail is opened anew) wants the work done once more, so nothing of it is recorded.
-- Rows are locked in this order everywhere, so that nobody waits for each other.
SELECT message_id, coalesce(asked_while_claimed, '{}') = '{}' AS is_all FROM outbox
WHERE message_id = ANY(%(ids)s::uuid[]) AND claim = %(claim)s
ORDER BY message_id
FOR UPDATE

-- name: release
-- Gives mails back, to be tried again after a while; at once where more was asked for meanwhile.
UPDATE outbox AS o
SET claim = NULL, claimed_until = NULL, asked_while_claimed = NULL, error = r.error,
    attempts = o.attempts - CASE WHEN r.blameless THEN 1 ELSE 0 END,
    next_attempt_at = now() + make_interval(secs =>
        CASE WHEN coalesce(o.asked_while_claimed, '{}') = '{}' THEN r.delay ELSE 0 END),
    missing_since = CASE WHEN r.missing THEN coalesce(o.missing_since, now()) END
FROM unnest(%(ids)s::uuid[], %(errors)s::text[], %(delays)s::double precision[],
            %(blameless)s::boolean[], %(missing)s::boolean[])
     AS r(id, error, delay, blameless, missing)
WHERE o.message_id = r.id AND o.claim = %(claim)s;

-- name: still_repeated
-- Of a row of the outbox, the handlers that shall have its mail once more when `given` was given: by
-- its number, what was asked for since is another asking.
ARRAY(SELECT r FROM unnest(o.repeat_handlers) AS r WHERE NOT EXISTS (
    SELECT FROM given AS g WHERE g.message_id = o.message_id AND g.handler_id = r
        AND g.asking = coalesce((o.redeliveries -> r::text ->> 'count')::integer, 0)))

-- name: note_repeated
-- These handlers have it once more. Whoever tries again, for others, leaves them alone.
WITH given AS (
    SELECT message_id, handler_id, asking
    FROM unnest(%(ids)s::uuid[], %(handlers)s::bigint[], %(askings)s::integer[])
         AS p(message_id, handler_id, asking)
)
UPDATE outbox AS o SET repeat_handlers = {still_repeated}
WHERE o.message_id = ANY(ARRAY(SELECT message_id FROM given)) AND o.claim = %(claim)s
  AND o.repeat_handlers <> '{}';

-- name: leave
-- What was asked for while they were claimed is not done with what is recorded now: for that alone
-- these mails stay, as if it was asked for now.
WITH given AS (
    SELECT message_id, handler_id, asking
    FROM unnest(%(given)s::uuid[], %(handlers)s::bigint[], %(askings)s::integer[])
         AS p(message_id, handler_id, asking)
), rest AS (
    SELECT o.message_id,
           ARRAY(SELECT h FROM unnest({still_repeated}) AS h
                 WHERE h = ANY(o.asked_while_claimed)) AS repeated,
           ARRAY(SELECT h FROM unnest(o.asked_handlers) AS h
                 WHERE h = ANY(o.asked_while_claimed) AND NOT EXISTS (
                     SELECT FROM given AS g
                     WHERE g.message_id = o.message_id AND g.handler_id = h)) AS asked
    FROM outbox AS o
    WHERE o.message_id = ANY(%(ids)s::uuid[]) AND o.claim = %(claim)s
      AND o.asked_while_claimed <> '{}'
)
UPDATE outbox AS o
SET initial = false, repeat_handlers = rest.repeated, asked_handlers = rest.asked, chosen = NULL,
    doubts = NULL, claim = NULL, claimed_until = NULL, asked_while_claimed = NULL, attempts = 0,
    emissions = 0, next_attempt_at = now(), missing_since = NULL, error = NULL
FROM rest WHERE o.message_id = rest.message_id AND rest.repeated || rest.asked <> '{}'
RETURNING o.message_id;

-- name: record_outcomes
UPDATE message AS m
SET opened_at = now(), security = o.security, opened_key = o.opened_key,
    opened_offset = o.opened_offset, opened_size = o.opened_size, opened_sha256 = o.opened_sha256,
    undecrypted = coalesce(
        o.security ->> 'status' IN ('no_recipient', 'unsupported', 'failed'), false)
FROM unnest(%(ids)s::uuid[], %(securities)s::jsonb[], %(keys)s::text[], %(offsets)s::bigint[],
            %(sizes)s::bigint[], %(sha256s)s::bytea[])
     AS o(id, security, opened_key, opened_offset, opened_size, opened_sha256)
WHERE m.id = o.id AND m.id = ANY(%(ids)s::uuid[]);

-- name: finish
-- Everything that was asked for is confirmed: the work is done; of those that are `left`, what was
-- asked for before they were claimed.
WITH gone AS (
    DELETE FROM outbox WHERE message_id = ANY(%(ids)s::uuid[]) AND claim = %(claim)s RETURNING message_id
), done AS (
    SELECT message_id FROM gone UNION ALL SELECT unnest(%(left)s::uuid[])
)
{finished}

-- name: finished
-- What was found in a mail is here already, or the mail is a plain one. One array, not a join: that
-- would sort the ids for each row.
UPDATE message
SET published_at = CASE WHEN id = ANY(%(unwanted)s::uuid[]) THEN published_at
                        ELSE coalesce(published_at, now()) END,
    unwanted = id = ANY(%(unwanted)s::uuid[]),
    opened_at = coalesce(opened_at, now()), security = coalesce(security, %(plain)s),
    facts = CASE WHEN id = ANY(%(unread)s::uuid[]) THEN facts
                 ELSE coalesce(%(facts)s::jsonb -> id::text, '{}') END,
    kind = CASE WHEN id = ANY(%(unread)s::uuid[]) THEN kind
                ELSE coalesce(%(facts)s::jsonb -> id::text ->> 'k', 'person') END,
    thread = CASE WHEN id = ANY(%(unread)s::uuid[]) THEN thread
                  ELSE coalesce(%(threads)s::jsonb ->> id::text, '') END
WHERE id = ANY(ARRAY(SELECT message_id FROM done))

-- name: complete
-- `hold`, `record_deliveries` of `deliveries.sql` and `finish` in one: a round trip in place of five.
-- Mails of which more was asked for meanwhile are passed over.
WITH mine AS MATERIALIZED (
    {hold}
), held AS MATERIALIZED (
    SELECT message_id FROM mine WHERE is_all
), giving AS (
    INSERT INTO delivery AS d (message_id, handler_id, published_at, position)
    SELECT message_id, handler_id, now(), position
    FROM unnest(%(given)s::uuid[], %(handlers)s::bigint[], %(positions)s::text[])
         AS p(message_id, handler_id, position)
    WHERE message_id = ANY(ARRAY(SELECT message_id FROM held))
    ON CONFLICT (message_id, handler_id) DO UPDATE
    SET published_at = excluded.published_at, position = excluded.position,
        repeats = d.repeats + 1, redelivery = excluded.redelivery
), done AS (
    DELETE FROM outbox WHERE message_id = ANY(ARRAY(SELECT message_id FROM held))
    RETURNING message_id
)
{finished}
RETURNING id;

-- name: take_out
-- Of a mail that is still ours: what its entry in quarantine needs to know.
WITH gone AS (
    DELETE FROM outbox AS o WHERE message_id = %(id)s AND claim = %(claim)s
    RETURNING message_id, to_jsonb(o) AS work
)
SELECT m.connection_id, m.folder, m.native_key, coalesce(m.uid_validity, 0), m.size, m.raw_key,
       m.raw_offset, gone.work
FROM gone JOIN message AS m ON m.id = gone.message_id;

-- name: size
SELECT count(*), min(m.downloaded_at) FROM outbox AS o JOIN message AS m ON m.id = o.message_id;
