-- The handlers for which a mail was asked while a decryptor has it in hand; NULL where nobody has, or one of an
-- earlier release, which does not look here.
ALTER TABLE outbox ADD COLUMN asked_while_claimed bigint[];
