-- Few mails are committed by one statement: each step of a transaction is a round trip.

-- name: commit
-- What `begin_batches`, `copy_messages` and `record_batches` of `ledger.sql` do, where that costs less
-- than by COPY. `before_last`: how many mails of its connection come behind a mail.
WITH held AS MATERIALIZED (
    {held}
), states AS MATERIALIZED (
    {states}
), numbered AS (
    {number}
    RETURNING s.connection_id, s.sequence
), mail AS MATERIALIZED (
    SELECT p.*, numbered.sequence - p.before_last AS sequence
    FROM json_to_recordset(%(mails)s::json) AS p(
            connection_id bigint, before_last bigint, folder text, uid_validity bigint,
            correlation_id uuid, id uuid, native_key text, size bigint, sha256 bytea, raw_key text,
            raw_offset bigint, message_id text, sender text, recipients text[], cc text[],
            subject text, sent_at timestamptz, arrived_at timestamptz, sender_name text,
            recipient_names text[], cc_names text[], findings jsonb, provider_thread text,
            labels text[], terms integer[], digest bytea, gmail_id bigint)
    JOIN numbered ON numbered.connection_id = p.connection_id
), writing AS (
    INSERT INTO message (connection_id, folder, uid_validity, correlation_id, id, native_key,
        sequence, size, sha256, raw_key, raw_offset, message_id, sender, recipients, cc, subject,
        sent_at, arrived_at, downloaded_at, sender_name, recipient_names, cc_names, findings,
        provider_thread, labels, terms)
    SELECT connection_id, folder, uid_validity, correlation_id, id, native_key, sequence, size,
        sha256, raw_key, raw_offset, message_id, sender, recipients, cc, subject, sent_at,
        arrived_at, now(), sender_name, recipient_names, cc_names, findings, provider_thread,
        labels, terms
    FROM mail
), {following}, knowing AS (
    {know}
)
SELECT connection_id FROM numbered;
