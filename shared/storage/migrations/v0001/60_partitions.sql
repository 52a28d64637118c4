-- Making and dropping the ledger's partitions takes their owner's rights, which no service has:
-- these functions lend a scheduler as much as that and no more. They wait for locks as long as
-- the caller's lock_timeout says; when to call them is up to shared/storage/retention.py.

-- The partitions of ids in [lower, upper): message_<suffix>, delivery_<suffix>, filtered_<suffix>.
-- Mails of that range that were in the DEFAULT partitions move to it.
CREATE FUNCTION create_ledger_partition(suffix text, lower uuid, upper uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    parent text;
    key text;
    filled int;
BEGIN
    IF suffix !~ '^[0-9]{8}$' THEN
        RAISE EXCEPTION 'not the day of a partition: %', suffix;
    END IF;
    FOR parent, key, filled IN VALUES ('message', 'id', 50), ('delivery', 'message_id', 80),
                                   ('filtered', 'message_id', 100) LOOP
        -- Attaching checks that the DEFAULT partition holds none of the new one's rows.
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_rest');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (fillfactor = %s)',
                       parent || '_' || suffix, parent, filled);
        EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) '
                       'INSERT INTO %I SELECT * FROM moved',
                       parent || '_rest', key, lower, key, upper, parent || '_' || suffix);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       parent, parent || '_' || suffix, lower, upper);
    END LOOP;
END $$;

-- Drops them; mails that somebody still has to do something with move to the DEFAULT
-- partitions. Returns how many those are.
CREATE FUNCTION drop_ledger_partition(suffix text, lower uuid, upper uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    parent text;
    key text;
    held uuid[];
    moved bigint;
    kept bigint := 0;
BEGIN
    IF suffix !~ '^[0-9]{8}$' THEN
        RAISE EXCEPTION 'not the day of a partition: %', suffix;
    END IF;
    FOREACH parent IN ARRAY ARRAY['message', 'delivery', 'filtered'] LOOP
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, parent || '_' || suffix);
    END LOOP;
    held := ARRAY(
        SELECT message_id FROM outbox WHERE message_id >= lower AND message_id < upper
        UNION
        SELECT message_id FROM settlement WHERE message_id >= lower AND message_id < upper
        UNION
        SELECT id FROM quarantine WHERE id >= lower AND id < upper);
    FOR parent, key IN VALUES ('message', 'id'), ('delivery', 'message_id'),
                       ('filtered', 'message_id') LOOP
        EXECUTE format('INSERT INTO %I SELECT * FROM %I WHERE %I = ANY($1)',
                       parent, parent || '_' || suffix, key) USING held;
        GET DIAGNOSTICS moved = ROW_COUNT;
        kept := kept + CASE parent WHEN 'message' THEN moved ELSE 0 END;
        EXECUTE format('DROP TABLE %I', parent || '_' || suffix);
    END LOOP;
    RETURN kept;
END $$;

REVOKE EXECUTE ON FUNCTION create_ledger_partition(text, uuid, uuid) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION drop_ledger_partition(text, uuid, uuid) FROM PUBLIC;
