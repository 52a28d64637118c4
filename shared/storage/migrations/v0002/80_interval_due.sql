-- When the interval makes a connection due, as `due_at` was set for that; another time there, or NULL here,
-- is that somebody asked for a run. Services of an earlier release leave it as it is.
ALTER TABLE connection_state ADD COLUMN interval_due_at timestamptz;
