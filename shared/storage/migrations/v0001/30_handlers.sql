CREATE TABLE handler (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$'),
    description text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT true,
    all_connections boolean NOT NULL DEFAULT true,
    token_digest bytea,                -- SHA-256 of the handler's token: it opens its own mails
    signing_key bytea,                 -- sealed: events are signed with it
    former_signing_key bytea,          -- sealed: and with this one, while the key is renewed
    rules jsonb,                       -- which mails it takes; NULL: all (shared.rules)
    group_name text NOT NULL DEFAULT '', -- of these handlers the first that accepts has a mail
    position integer NOT NULL DEFAULT 0, -- its place in the group
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX handler_name ON handler (name);

CREATE TABLE handler_connection (
    handler_id bigint NOT NULL REFERENCES handler ON DELETE CASCADE,
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    PRIMARY KEY (handler_id, connection_id)
);
CREATE INDEX handler_connection_connection ON handler_connection (connection_id);

-- How far a handler's queue is known to be acknowledged, and how it looked when last checked.
CREATE TABLE handler_queue (
    handler_id bigint PRIMARY KEY REFERENCES handler ON DELETE CASCADE,
    output text NOT NULL DEFAULT '',   -- scheme and host it was created on
    generation uuid,
    incarnation text NOT NULL DEFAULT '', -- the broker's own run, when last seen whole
    restarted_at timestamptz,          -- since when another run is seen, until it counts as whole
    acknowledged text NOT NULL DEFAULT '', -- Redis: the position up to which it was trimmed
    watermark timestamptz NOT NULL DEFAULT now(), -- everything published before is acknowledged
    created_at timestamptz,            -- when Posthouse last created it; NULL: to be created
    backlog bigint NOT NULL DEFAULT 0,
    oldest_at timestamptz,
    dead bigint NOT NULL DEFAULT 0,
    checked_at timestamptz
);

CREATE TABLE webhook (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    url bytea NOT NULL,                -- sealed: such addresses are secrets
    secret bytea,                      -- signs the body, sealed
    template text NOT NULL DEFAULT 'json' CHECK (template IN ('json', 'slack', 'teams', 'opsgenie')),
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX webhook_name ON webhook (lower(name));

-- Transitions that people should hear of; every enabled webhook gets each once.
CREATE TABLE alert (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,             -- what it is about: connection/7, certificate/3
    dedupe text NOT NULL DEFAULT '',   -- the same transition is raised once
    data jsonb NOT NULL,
    next_attempt_at timestamptz,       -- NULL: done
    attempts integer NOT NULL DEFAULT 0
);
CREATE INDEX alert_due ON alert (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX alert_subject ON alert (subject, id DESC);
CREATE UNIQUE INDEX alert_dedupe ON alert (dedupe) WHERE dedupe <> '';

CREATE TABLE alert_delivery (          -- the execution log
    alert_id uuid NOT NULL REFERENCES alert ON DELETE CASCADE,
    webhook_id bigint NOT NULL REFERENCES webhook ON DELETE CASCADE,
    attempted_at timestamptz NOT NULL DEFAULT now(),
    status integer,
    error text,
    PRIMARY KEY (alert_id, webhook_id, attempted_at)
);
