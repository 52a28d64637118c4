-- Of a key that vanished: whether its mail was deleted by us (or was to be, when its server changed), or
-- went without us. NULL while it is listed, and where it vanished before this column was there.
ALTER TABLE known_key ADD COLUMN deleted boolean;
