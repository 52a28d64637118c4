-- A search: the ids that `candidates` and the conditions after it choose, and then what the list
-- shows of these mails: nothing else is looked up, and no partition that has none of them is opened.

-- name: found
-- Follows on `messages` of messages.sql.
WHERE m.id = ANY(%(ids)s)
ORDER BY m.id DESC

-- name: newest
ORDER BY m.id DESC LIMIT %(limit)s

-- name: best_by_index
-- By a text, so that Postgres does not go through all mails in their order until it has enough: how
-- rare a word is it cannot know.
ORDER BY m.id::text DESC LIMIT %(limit)s

-- name: candidates
-- A join that no condition asks for is left out by Postgres.
SELECT m.id FROM message m
LEFT JOIN outbox o ON o.message_id = m.id
LEFT JOIN quarantine q ON q.id = m.id

-- name: floor
-- The last one of so many mails of a range, newest first.
ORDER BY m.id DESC OFFSET %(most)s - 1 LIMIT 1

-- name: in_range
WHERE (%(before)s::uuid IS NULL OR m.id < %(before)s)
  AND (%(since)s::uuid IS NULL OR m.id >= %(since)s)
  AND (%(until)s::uuid IS NULL OR m.id < %(until)s)
  AND (%(connection_id)s::bigint IS NULL OR m.connection_id = %(connection_id)s)
  AND (%(part)s::text[] IS NULL
       OR m.connection_id IN (SELECT id FROM connection WHERE tags && %(part)s))

-- name: with_terms
  AND m.terms @> %(terms)s::integer[]

-- name: with_ascii
-- Every mail in the range is looked at, so this is as cheap as it can be: one text a mail, folded by
-- ASCII alone (the pattern is lower case), which is several times quicker than ILIKE.
  AND lower((m.sender || E'\n' || m.sender_name || E'\n' || m.subject || E'\n' || m.message_id || E'\n'
             || m.recipients::text || m.cc::text) COLLATE "C") LIKE %(pattern)s

-- name: with_text
  AND (m.sender || E'\n' || m.sender_name || E'\n' || m.subject || E'\n' || m.message_id || E'\n'
       || m.recipients::text || m.cc::text) ~* %(pattern)s

-- name: with_message_id
  AND m.message_id = ANY(%(message_ids)s)

-- name: waiting
  AND o.message_id IS NOT NULL AND o.error IS NULL

-- name: retrying
  AND o.message_id IS NOT NULL AND o.error IS NOT NULL

-- name: quarantined
  AND q.id IS NOT NULL

-- name: handed_over
  AND m.published_at IS NOT NULL AND NOT m.unwanted AND o.message_id IS NULL AND q.id IS NULL

-- name: state_by_handlers
  AND coalesce((SELECT s.state FROM message_state AS s WHERE s.message_id = m.id), 'published') = %(state)s

-- name: dead_letters
-- Few: they are looked up, and not each mail for them. So are those of the next two.
  AND m.id = ANY(ARRAY(SELECT DISTINCT message_id FROM dead_letter))

-- name: in_hand
  AND m.id = ANY(ARRAY(
      SELECT DISTINCT d.message_id FROM delivery AS d JOIN (
          SELECT handler_id, watermark,
                 ARRAY(SELECT one ->> 'position' FROM jsonb_array_elements(in_hand) AS one) AS positions
          FROM handler_queue WHERE in_hand <> '[]' OFFSET 0) AS held
        ON held.handler_id = d.handler_id AND d.published_at >= held.watermark
       AND d.position = ANY(held.positions)))

-- name: were_dead_letters
  AND m.id = ANY(ARRAY(SELECT DISTINCT message_id FROM message_history
                       WHERE what IN ('discarded', 'left-dead-letters')))

-- name: unwanted
  AND m.unwanted AND o.message_id IS NULL AND q.id IS NULL

-- name: filtered_by
  AND EXISTS (SELECT FROM filtered f WHERE f.message_id = m.id AND f.handler_id = %(filtered_by)s)

-- name: of_kind
  AND m.kind = %(kind)s AND m.kind <> 'person'

-- name: of_a_person
-- Of one that was not read yet it is not known.
  AND m.kind = %(kind)s AND m.facts IS NOT NULL AND NOT m.facts ? 'x'

-- name: with_files
  AND m.facts ? 'n'

-- name: without_files
  AND m.facts IS NOT NULL AND NOT m.facts ?| '{n,x}'

-- name: in_thread
-- The mail that begins a thread has no other mail's id to tell. One look into an index for each, not a
-- condition on every mail of the list.
  AND m.id = ANY(ARRAY(
        SELECT id FROM message WHERE provider_thread = ANY(%(threads)s) AND provider_thread <> ''
        UNION
        SELECT id FROM message
        WHERE thread = ANY(%(threads)s) AND thread <> '' AND provider_thread = ''
        UNION
        SELECT id FROM message
        WHERE message_id = ANY(%(threads)s) AND message_id <> '' AND thread = ''
          AND provider_thread = ''))

-- name: dropped
  AND m.published_at IS NULL AND NOT m.unwanted AND o.message_id IS NULL AND q.id IS NULL

-- name: undecrypted
  AND m.undecrypted
