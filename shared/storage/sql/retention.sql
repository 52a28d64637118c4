-- What ages out, and what is kept because something still needs it.

-- name: claim_chore
-- One row where nobody has started this chore for `every`; then it is the caller's. So it is where it
-- was started in time to come: the clock was set back.
INSERT INTO chore (name, started_at) VALUES (%(name)s, now())
ON CONFLICT (name) DO UPDATE SET started_at = now()
WHERE chore.started_at <= now() - %(every)s OR chore.started_at > now() + interval '1 minute'
RETURNING name

-- name: now
SELECT now()

-- name: only_one
-- Partitions are made and dropped by one process at a time.
SELECT pg_try_advisory_xact_lock(%(lock)s)

-- name: partitions
-- Every dated partition of the ledger with its bounds as Postgres prints them.
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'message'::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'

-- name: unacknowledged
-- Enabled handlers that have not acknowledged every mail of this range of ids.
SELECT h.name
FROM handler h
JOIN handler_queue q ON q.handler_id = h.id
WHERE h.enabled AND EXISTS (
    SELECT 1 FROM delivery d
    WHERE d.handler_id = h.id AND d.published_at >= q.watermark
      AND d.message_id >= %(lower)s AND d.message_id < %(upper)s)
ORDER BY h.name

-- name: create
-- The owner's rights are in the function.
SELECT create_ledger_partition(%(suffix)s, %(lower)s, %(upper)s)

-- name: drop
SELECT drop_ledger_partition(%(suffix)s, %(lower)s, %(upper)s)

-- name: drop_rest
-- Old mails outside the dated partitions, in batches; the same rules, row by row.
DELETE FROM message_rest WHERE id IN (
    SELECT m.id FROM message_rest m
    WHERE m.id < %(before)s
      AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.message_id = m.id)
      AND NOT EXISTS (  -- of another folder than the connection reads now nobody settles any
          SELECT 1 FROM settlement s
          JOIN connection c ON c.id = s.connection_id AND c.folder = s.folder
          WHERE s.message_id = m.id)
      AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.id = m.id)
      AND (m.id < %(at_last)s OR NOT EXISTS (
          SELECT 1 FROM delivery d
          JOIN handler h ON h.id = d.handler_id AND h.enabled
          JOIN handler_queue q ON q.handler_id = h.id
          WHERE d.message_id = m.id AND d.published_at >= q.watermark))
    LIMIT %(limit)s)

-- name: drop_rest_deliveries
DELETE FROM delivery_rest d
WHERE d.message_id < %(before)s AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = d.message_id)

-- name: drop_rest_filtered
DELETE FROM filtered_rest f
WHERE f.message_id < %(before)s AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = f.message_id)

-- name: drop_history
DELETE FROM message_history h
WHERE h.message_id < %(before)s AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = h.message_id)

-- name: drop_dead_letters
-- What the broker still has stays there; its mail is gone.
DELETE FROM dead_letter l
WHERE l.message_id < %(before)s AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = l.message_id)

-- name: referenced_objects
-- Objects that rows older than the dated partitions still point into.
SELECT raw_key FROM message WHERE id < %(floor)s
UNION SELECT opened_key FROM message WHERE id < %(floor)s AND opened_key IS NOT NULL
UNION SELECT raw_key FROM quarantine WHERE raw_key IS NOT NULL

-- name: drop_runs
DELETE FROM fetch_run WHERE id < %(before)s

-- name: drop_alerts
-- Alerts that are done; their execution log goes with them.
DELETE FROM alert WHERE id < %(before)s AND next_attempt_at IS NULL

-- name: drop_sessions
DELETE FROM session WHERE expires_at < now()

-- name: drop_oauth_flows
-- Logins at a provider that nobody finished.
DELETE FROM oauth_flow WHERE created_at < now() - interval '1 hour'

-- name: drop_authorisation_links
-- What became of a link can be read for a month after its time.
DELETE FROM authorisation_link WHERE expires_at < now() - interval '30 days'

-- name: drop_login_attempts
DELETE FROM login_attempt WHERE at < now() - interval '1 day'

-- name: drop_revocations
-- Certificates that no mail came by with for long; their time is over, or their signers are silent.
DELETE FROM revocation WHERE seen_at < now() - interval '90 days'

-- name: drop_revocation_lists
-- Lists that no certificate needs any more; what an administrator gave stays.
DELETE FROM revocation_list l WHERE address <> '' AND NOT EXISTS (
    SELECT 1 FROM revocation r WHERE r.issuer_key = l.issuer_key)

-- name: drop_revocation_hosts
DELETE FROM revocation_host WHERE day < current_date - 7 AND not_before < now()

-- name: drop_forward_attempts
DELETE FROM forward_attempt WHERE at < now() - interval '7 days'

-- name: drop_forward_retries
-- Of events that never came again: their queue was deleted, say.
DELETE FROM forward_retry WHERE next_attempt_at < now() - interval '60 days'
