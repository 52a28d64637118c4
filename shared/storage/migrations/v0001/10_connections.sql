-- What administrators describe. Secrets (bytea) are sealed by shared.vault before they come here.

CREATE TABLE credential (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    provider text NOT NULL CHECK (provider IN ('google', 'microsoft')),
    grant_type text NOT NULL CHECK (grant_type IN ('authorization-code', 'client-credentials')),
    client_id text NOT NULL DEFAULT '',
    client_secret bytea,
    client_certificate bytea,          -- PEM or JSON key, sealed
    tenant text NOT NULL DEFAULT '',
    cloud text NOT NULL DEFAULT 'global',
    settings jsonb NOT NULL DEFAULT '{}',
    secret_expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX credential_name ON credential (lower(name));

CREATE TABLE certificate (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL DEFAULT 'smime' CHECK (kind IN ('smime', 'openpgp')),
    name text NOT NULL,
    alias text NOT NULL DEFAULT '',
    subject text NOT NULL,
    issuer text NOT NULL,
    serial text NOT NULL,
    fingerprint text NOT NULL,         -- SHA-256 of the certificate, hex
    not_before timestamptz,
    not_after timestamptz,
    emails text[] NOT NULL DEFAULT '{}',
    key_type text NOT NULL DEFAULT '',
    certificate bytea NOT NULL,        -- DER (smime) or the public key (openpgp)
    chain bytea[] NOT NULL DEFAULT '{}',
    private_key bytea,                 -- PKCS#8 DER (smime) or the secret key (openpgp), sealed;
                                       -- NULL only inside the transaction that adds the row
    search_text text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX certificate_name ON certificate (lower(name));

CREATE TABLE trust_anchor (            -- certificate authorities that signers are checked against
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    subject text NOT NULL DEFAULT '',
    fingerprint text NOT NULL,         -- SHA-256, hex
    not_after timestamptz,
    certificate bytea NOT NULL,        -- DER
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX trust_anchor_fingerprint ON trust_anchor (fingerprint);

CREATE TABLE sender_key (              -- senders that need no authority: the administrator knows them
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('smime', 'openpgp')),
    name text NOT NULL,
    subject text NOT NULL,
    emails text[] NOT NULL,
    fingerprint text NOT NULL,         -- SHA-256 of the certificate, or the OpenPGP key's own; hex
    not_after timestamptz,
    certificate bytea NOT NULL,        -- DER (smime) or the public key (openpgp)
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX sender_key_fingerprint ON sender_key (fingerprint);

CREATE TABLE connection (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    description text NOT NULL DEFAULT '',
    mode text NOT NULL CHECK (mode IN ('pop3', 'imap', 'google-imap', 'microsoft-imap', 'microsoft-graph')),
    host text NOT NULL DEFAULT '',
    port integer NOT NULL DEFAULT 0 CHECK (port BETWEEN 0 AND 65535),
    security text NOT NULL DEFAULT 'tls' CHECK (security IN ('tls', 'starttls', 'none')),
    verify_certificate boolean NOT NULL DEFAULT true,
    ca_certificate text,
    username text NOT NULL DEFAULT '',
    password bytea,                    -- sealed
    -- For those who may know that there is one, and not read it.
    has_password boolean NOT NULL GENERATED ALWAYS AS (password IS NOT NULL) STORED,
    client_certificate bytea,          -- PEM with its private key, sealed
    has_client_certificate boolean NOT NULL
        GENERATED ALWAYS AS (client_certificate IS NOT NULL) STORED,
    credential_id bigint REFERENCES credential,
    interval_minutes smallint NOT NULL DEFAULT 1 CHECK (interval_minutes BETWEEN 1 AND 60),
    folder text NOT NULL DEFAULT '',
    after_download text NOT NULL DEFAULT 'mark-read' CHECK (after_download IN ('mark-read', 'delete')),
    timeout_ms integer NOT NULL DEFAULT 10000 CHECK (timeout_ms BETWEEN 1 AND 60000),
    selection text NOT NULL DEFAULT 'unread' CHECK (selection IN ('unread', 'all')),
    shared_mailbox text,
    host_override text,
    permanent_delete boolean NOT NULL DEFAULT false,
    push boolean NOT NULL DEFAULT false,
    trusted_servers text NOT NULL DEFAULT '', -- authserv-ids (RFC 8601), with spaces between them
    tags text[] NOT NULL DEFAULT '{}', -- lower case, in order, each once
    enabled boolean NOT NULL DEFAULT false,
    -- Case-folded by Unicode's rules, which no collation that every Postgres has could do.
    name_key text UNIQUE,
    search_text text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX connection_name ON connection (lower(name));
CREATE INDEX connection_credential ON connection (credential_id);
-- The list in its usual order: a page of it is read from here, without sorting.
CREATE INDEX connection_list ON connection ((coalesce(name_key, lower(name))), id);

CREATE INDEX connection_tags ON connection USING gin (tags);

CREATE TABLE connection_certificate (
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    certificate_id bigint NOT NULL REFERENCES certificate,
    PRIMARY KEY (connection_id, certificate_id)
);
CREATE INDEX connection_certificate_certificate ON connection_certificate (certificate_id);

-- The hot state of a connection, apart from what administrators edit.
CREATE TABLE connection_state (
    connection_id bigint PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
    due_at timestamptz,                -- NULL: not scheduled
    emitted_at timestamptz,
    lane text NOT NULL DEFAULT 'fetch',
    affinity text,                     -- the fetcher that keeps this mailbox's session open
    failures integer NOT NULL DEFAULT 0,
    health text NOT NULL DEFAULT 'pending'
        CHECK (health IN ('pending', 'working', 'failing', 'needs-authorisation')),
    error jsonb,                       -- {code, step, message, hint, log, at} of the last failure
    cursor jsonb,                      -- the folder when everything in it had been handled
    uid_validity bigint,
    sequence bigint NOT NULL DEFAULT 0,
    start_since timestamptz,           -- mails that arrived before are skipped
    skip_existing boolean NOT NULL DEFAULT false, -- the next run skips all that is there
    skipped_before timestamptz,        -- when it did; to know those mails after a re-created folder
    validity_changed_at timestamptz,   -- UIDVALIDITY changed: mails are being recognised by content
    pruned_at timestamptz,             -- when what vanished from the server was last forgotten
    last_success_at timestamptz,
    awaited_since timestamptz NOT NULL DEFAULT now(), -- enabled, or first taken: runs are expected
    last_run_at timestamptz,
    last_run_ms integer,
    push_silent boolean NOT NULL DEFAULT false -- IDLE was taken, and polls found what it never told
) WITH (fillfactor = 60);
-- Few of many: those that need somebody, for the first page.
CREATE INDEX connection_state_ill ON connection_state (connection_id)
    WHERE health IN ('failing', 'needs-authorisation');
CREATE INDEX connection_state_due ON connection_state (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX connection_state_affinity ON connection_state (affinity) WHERE affinity IS NOT NULL;

-- Fetchers at work. One that lets its time run out is taken for dead: its mailboxes go to others.
CREATE TABLE fetcher (
    owner text PRIMARY KEY,
    until timestamptz NOT NULL,
    takes_jobs_until timestamptz NOT NULL -- from its own queue; after that they go to the common one
);

-- Servers that turned a fetcher away which had no session there: the others' kept ones give way.
CREATE UNLOGGED TABLE crowded_host (
    host text PRIMARY KEY,
    at timestamptz NOT NULL
);

-- How many sessions a server takes of all fetchers together, where it refused more.
CREATE TABLE session_limit (
    host text PRIMARY KEY,
    allowed integer NOT NULL,
    until timestamptz NOT NULL
);

-- Sessions that a fetcher may have open at a server. The sum at a host never exceeds the limit; a
-- fetcher that dies loses its share with its row in `fetcher`.
CREATE TABLE session_share (
    host text NOT NULL,
    owner text NOT NULL REFERENCES fetcher ON DELETE CASCADE,
    held integer NOT NULL,
    waits_since timestamptz,           -- it wants more than there is
    waits_until timestamptz,           -- nobody waits for it any longer if it does not ask again
    PRIMARY KEY (host, owner)
);
CREATE INDEX session_share_owner ON session_share (owner);
CREATE INDEX session_share_waits ON session_share (waits_until) WHERE waits_until IS NOT NULL;

-- At most one fetch per mailbox folder; the fence only ever rises (checked by every commit).
CREATE TABLE lease (
    mailbox text PRIMARY KEY,
    owner text NOT NULL,
    until timestamptz NOT NULL,
    fence bigint NOT NULL
) WITH (fillfactor = 60);

-- Runs that found something, failed, or changed the health; idle ones only move last_run_at.
CREATE TABLE fetch_run (
    id uuid PRIMARY KEY,               -- UUIDv7: carries the start
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    duration_ms integer NOT NULL,
    found integer NOT NULL DEFAULT 0,
    downloaded integer NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    error jsonb
);
CREATE INDEX fetch_run_connection ON fetch_run (connection_id, id DESC);

-- OAuth2: the token cache of a connection, one row, locked while a token is refreshed.
CREATE TABLE authorisation (
    connection_id bigint PRIMARY KEY REFERENCES connection ON DELETE CASCADE,
    cache bytea,                       -- sealed
    account text NOT NULL DEFAULT '',
    authorised_by text NOT NULL DEFAULT '',
    authorised_at timestamptz,
    expires_at timestamptz,            -- of the present access token
    refreshed_at timestamptz,
    grant_ends_at timestamptz,         -- the provider said when the refresh token itself ends
    lost_at timestamptz,               -- when the provider said that the grant is gone
    revoked boolean NOT NULL DEFAULT false
);

CREATE TABLE oauth_flow (              -- one started login; taken out once, on return
    state text PRIMARY KEY,
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    session text NOT NULL,
    flow bytea NOT NULL,               -- sealed
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Requests under way at a mailbox of Graph, over all replicas. Worth nothing after a crash.
CREATE UNLOGGED TABLE request_slot (
    mailbox text NOT NULL,
    slot smallint NOT NULL,
    holder uuid NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (mailbox, slot)
);
CREATE UNLOGGED TABLE request_pause (  -- what Retry-After asked for
    mailbox text PRIMARY KEY,
    until timestamptz NOT NULL
);
