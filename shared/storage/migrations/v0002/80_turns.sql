-- When the interval makes a connection due, as `due_at` was set for that; another time there, or NULL here,
-- is somebody's wish. Services of an earlier release leave it as it is.
ALTER TABLE connection_state ADD COLUMN turn_at timestamptz;
