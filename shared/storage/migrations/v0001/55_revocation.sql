-- Certificates on the paths of signers that were believed, and what is known of their revocation.
CREATE TABLE revocation (
    fingerprint bytea PRIMARY KEY CHECK (fingerprint = sha256(certificate)),
    certificate bytea NOT NULL,        -- DER
    issuer bytea NOT NULL,             -- the certificate of its authority, DER
    issuer_key bytea NOT NULL,         -- SHA-256 of that authority's name and public key
    not_after timestamptz NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),  -- when a mail came by, to a day
    status text NOT NULL DEFAULT 'not-checked'
        CHECK (status IN ('good', 'revoked', 'unknown', 'not-checked')),
    source text CHECK (source IN ('crl', 'ocsp')),
    as_of timestamptz,                 -- thisUpdate
    next_update timestamptz,
    reason text NOT NULL DEFAULT '',
    revoked_at timestamptz,
    checked_at timestamptz,            -- when it was last tried
    error text NOT NULL DEFAULT '',    -- why that failed
    failures integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX revocation_due ON revocation (next_attempt_at);
CREATE INDEX revocation_changed ON revocation (changed_at);

-- Revocation lists that were fetched, or given by an administrator.
CREATE TABLE revocation_list (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer_key bytea NOT NULL,
    issuer_name text NOT NULL,
    address text NOT NULL,             -- empty: given by an administrator
    list bytea,                        -- DER; NULL: none was had yet
    octets integer NOT NULL DEFAULT 0,
    as_of timestamptz,
    next_update timestamptz,
    fetched_at timestamptz,            -- when it was last had
    refresh_at timestamptz NOT NULL DEFAULT now(),
    failures integer NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    UNIQUE (issuer_key, address)
);

-- How often the hosts of authorities were asked today, and when one that failed may be asked again.
CREATE TABLE revocation_host (
    host text PRIMARY KEY,
    day date NOT NULL DEFAULT current_date,
    requests integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now()
);
