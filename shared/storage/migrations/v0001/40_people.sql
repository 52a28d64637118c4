CREATE TABLE person (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL DEFAULT '',
    password_hash text,                -- argon2id; NULL: logs in through OIDC only
    oidc_subject text,                 -- "issuer subject", bound at the first login by its address
    oidc_groups text[] NOT NULL DEFAULT '{}', -- which gave role and tags at the last login
    totp_secret bytea,                 -- sealed; counts where totp_step is not NULL
    totp_step bigint,                  -- the last time step whose code was used: each works once
    role text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    tags text[] NOT NULL DEFAULT '{}', -- sees connections with one of them alone; empty: all
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz
);
CREATE UNIQUE INDEX person_name ON person (lower(name));
CREATE UNIQUE INDEX person_email ON person (lower(email)) WHERE email <> '';
CREATE UNIQUE INDEX person_oidc ON person (oidc_subject) WHERE oidc_subject IS NOT NULL;

CREATE TABLE recovery_code (           -- stands in for a lost authenticator, once
    digest bytea PRIMARY KEY,
    person_id bigint NOT NULL REFERENCES person ON DELETE CASCADE
);

CREATE TABLE session (
    digest bytea PRIMARY KEY,          -- SHA-256 of the cookie
    person_id bigint REFERENCES person ON DELETE CASCADE, -- NULL: the bootstrap token
    csrf text NOT NULL,
    pending boolean NOT NULL DEFAULT false, -- the password was right, the second factor is missing
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(), -- used by somebody, not by a page's own refresh
    address text NOT NULL DEFAULT '',  -- where it was started from
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_person ON session (person_id);
CREATE INDEX session_expires ON session (expires_at);

CREATE TABLE api_token (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    digest bytea NOT NULL UNIQUE,
    role text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    tags text[] NOT NULL DEFAULT '{}', -- as a person's
    created_by text NOT NULL DEFAULT '',
    person_id bigint REFERENCES person, -- who made it; NULL: the bootstrap token, or a program
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz
);
CREATE UNIQUE INDEX api_token_name ON api_token (lower(name));

CREATE TABLE login_device (            -- browsers in which somebody has logged in before
    digest bytea PRIMARY KEY,          -- SHA-256 of the device cookie
    person_id bigint REFERENCES person ON DELETE CASCADE, -- NULL: the bootstrap token
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE login_attempt (           -- rate limit: attempts by source (network, name, device)
    source text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX login_attempt_source ON login_attempt (source, at);

CREATE TABLE audit (
    id uuid PRIMARY KEY,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_subject ON audit (subject, id DESC);
