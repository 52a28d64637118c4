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
    dead_listed bigint,                -- how many there were when they were listed; NULL: list them
    consumers jsonb,                   -- [{name, in_hand, idle_s}]; NULL: the broker does not tell
    in_hand jsonb NOT NULL DEFAULT '[]', -- [{position, consumer, since, deliveries}], the oldest
    read_position text NOT NULL DEFAULT '', -- Redis: up to here all but `in_hand` is acknowledged
    acknowledgements bigint,           -- as the broker counts them
    last_acknowledged_at timestamptz,
    checked_at timestamptz
);

-- The handlers' dead letters, as the broker listed them: it is the truth, these rows make mails be
-- found by it.
CREATE TABLE dead_letter (
    handler_id bigint NOT NULL REFERENCES handler ON DELETE CASCADE,
    message_id uuid NOT NULL,
    died_at timestamptz NOT NULL,
    reason text NOT NULL,
    deliveries integer NOT NULL,
    given_up boolean NOT NULL,         -- nobody rejected it: it was given too often
    PRIMARY KEY (handler_id, message_id, died_at)
);
CREATE INDEX dead_letter_message ON dead_letter (message_id);

-- Where Redis compares two positions of a stream.
CREATE FUNCTION position_order(place text) RETURNS numeric[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN string_to_array(place, '-')::numeric[];

-- What became of each delivery, as of the last look at the handler's queue: dead-letter, rejected (it
-- was a dead letter), in-hand, acknowledged, waiting, or unknown (the handler is gone).
CREATE VIEW delivery_fate AS
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
        WHEN EXISTS (SELECT FROM jsonb_array_elements(q.in_hand) AS one
                     WHERE one ->> 'position' = d.position) THEN 'in-hand'
        WHEN q.read_position <> '' AND position_order(d.position) <= position_order(q.read_position)
            THEN 'acknowledged'
        ELSE 'waiting' END AS fate
FROM delivery AS d LEFT JOIN handler_queue AS q ON q.handler_id = d.handler_id;

CREATE TABLE webhook (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    url bytea NOT NULL,                -- sealed: such addresses are secrets
    secret bytea,                      -- signs the body, sealed
    template text NOT NULL DEFAULT 'json' CHECK (template IN ('json', 'slack', 'teams', 'opsgenie')),
    kinds text[] NOT NULL DEFAULT '{}',  -- of alerts that it is told of; empty: every kind
    enabled boolean NOT NULL DEFAULT true,
    muted_until timestamptz,           -- told nothing before then
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
-- Which connections an alert is about that did not recover yet.
CREATE INDEX alert_connections ON alert USING gin ((data -> 'connection_ids'))
    WHERE kind IN ('connection-failing', 'connection-needs-authorisation');
CREATE UNIQUE INDEX alert_dedupe ON alert (dedupe) WHERE dedupe <> '';

CREATE TABLE alert_delivery (          -- the execution log
    alert_id uuid NOT NULL REFERENCES alert ON DELETE CASCADE,
    webhook_id bigint NOT NULL REFERENCES webhook ON DELETE CASCADE,
    attempted_at timestamptz NOT NULL DEFAULT now(),
    status integer,
    error text,
    PRIMARY KEY (alert_id, webhook_id, attempted_at)
);

-- Where the forwarder passes a handler's mails on to; a handler without a row consumes by itself.
CREATE TABLE forward (
    handler_id bigint PRIMARY KEY REFERENCES handler ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('http', 'nats', 'kafka')),
    place text NOT NULL,               -- scheme, host and port of the address, for people
    options jsonb NOT NULL,            -- shared.forwards
    header_names text[] NOT NULL DEFAULT '{}',
    address bytea NOT NULL,            -- sealed: such addresses are secrets
    secret bytea,                      -- sealed: what is sent is signed with it
    former_secret bytea,               -- sealed: and with this one, while it is renewed
    headers bytea,                     -- sealed: the values of header_names, as JSON
    client_certificate bytea,          -- sealed: PEM with its key
    credential_names text[] NOT NULL DEFAULT '{}',
    credentials bytea,                 -- sealed: the values of credential_names, as JSON
    link_key bytea NOT NULL,           -- sealed: signs the addresses of mails that go by reference
    paused_at timestamptz,             -- nothing is sent since then
    paused_by text NOT NULL DEFAULT '',
    pause_reason text NOT NULL DEFAULT '',
    sender text NOT NULL DEFAULT '',   -- where order is asked for: the one forwarder that sends,
    sender_until timestamptz,          -- and until when, unless it says so again
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Events that the far side did not take yet. A row goes when it has, or with the dead letter.
CREATE TABLE forward_retry (
    handler_id bigint NOT NULL REFERENCES forward ON DELETE CASCADE,
    event_id text NOT NULL,
    attempts integer NOT NULL,
    first_failed_at timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL,
    PRIMARY KEY (handler_id, event_id)
);

-- The delivery log: the newest attempts of each handler.
CREATE TABLE forward_attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handler_id bigint NOT NULL REFERENCES forward ON DELETE CASCADE,
    event_id text NOT NULL,
    at timestamptz NOT NULL,
    seconds real NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('delivered', 'failed', 'dead', 'paused')),
    status integer,                    -- HTTP's; NULL: no answer
    detail text NOT NULL DEFAULT '',   -- why it failed
    answer text NOT NULL DEFAULT ''    -- the first 1,024 octets of the answer
);
CREATE INDEX forward_attempt_handler ON forward_attempt (handler_id, id DESC);
CREATE INDEX forward_attempt_at ON forward_attempt (at);
