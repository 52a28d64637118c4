-- What any one scheduler does now and then for all of them: whoever moves the time does it.
CREATE TABLE chore (
    name text PRIMARY KEY,
    started_at timestamptz NOT NULL
);

-- The store of raw mails that belongs to this database; the same id lies in the store.
CREATE TABLE store (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    identity uuid NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

-- Processes of Posthouse, as each says every few seconds how it is.
CREATE TABLE service (
    instance text PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    failing jsonb NOT NULL,            -- what it cannot reach: {check: why}
    failing_since timestamptz,
    free bigint,                       -- octets of its store
    total bigint
);
