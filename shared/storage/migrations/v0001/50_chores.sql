-- What any one scheduler does now and then for all of them: whoever moves the time does it.
CREATE TABLE chore (
    name text PRIMARY KEY,
    started_at timestamptz NOT NULL
);
