-- What became of each delivery, as of the last look at the handler's queue: dead-letter, rejected (it
-- was a dead letter), in-hand, acknowledged, waiting, or unknown (the handler is gone). Services of
-- 0.1.0 read `delivery_fate`, which stays for them as it is.
CREATE VIEW delivery_state AS
SELECT d.message_id, d.handler_id,
    CASE
        WHEN q.handler_id IS NULL THEN 'unknown'
        WHEN EXISTS (SELECT FROM dead_letter l
                     WHERE l.message_id = d.message_id AND l.handler_id = d.handler_id)
            THEN 'dead-letter'
        WHEN EXISTS (SELECT FROM message_history h
                     WHERE h.message_id = d.message_id AND h.handler_id = d.handler_id
                       AND h.what IN ('discarded', 'left-dead-letters') AND h.at >= d.published_at)
            THEN 'rejected'
        WHEN d.published_at < q.watermark THEN 'acknowledged'
        WHEN d.position = '' THEN 'waiting'
        WHEN q.acknowledged <> '' AND position_order(d.position) <= position_order(q.acknowledged)
            THEN 'acknowledged'
        -- Of all handlers at once: Postgres makes one table of it, and opens no list per delivery.
        WHEN (d.handler_id, d.position) IN (
            SELECT held.handler_id, one ->> 'position'
            FROM handler_queue AS held, jsonb_array_elements(held.in_hand) AS one) THEN 'in-hand'
        WHEN q.read_position <> '' AND position_order(d.position) <= position_order(q.read_position)
            THEN 'acknowledged'
        ELSE 'waiting' END AS state
FROM delivery AS d LEFT JOIN handler_queue AS q ON q.handler_id = d.handler_id;

-- What became of a mail that was published, for all its handlers together. To be asked for one mail, as
-- (SELECT state FROM message_state WHERE message_id = ID): in a join, Postgres goes through all mails.
CREATE VIEW message_state AS
SELECT message_id,
    CASE WHEN 'dead-letter' = ANY(states) THEN 'dead-letter'
         WHEN 'in-hand' = ANY(states) THEN 'in-hand'
         WHEN states && '{waiting,unknown}' THEN 'published'
         WHEN 'rejected' = ANY(states) THEN 'rejected'
         ELSE 'acknowledged' END AS state
FROM (SELECT message_id, array_agg(state) AS states FROM delivery_state GROUP BY message_id) AS d;
