-- Until when the server of a mailbox wants no login: that long its next run is not awaited.
ALTER TABLE connection_state ADD COLUMN put_off_until timestamptz;
