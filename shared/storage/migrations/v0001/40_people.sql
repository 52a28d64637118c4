CREATE TABLE person (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL DEFAULT '',
    password_hash text,                -- argon2id; NULL: logs in through OIDC only
    oidc_subject text,
    role text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX person_name ON person (lower(name));
CREATE UNIQUE INDEX person_oidc ON person (oidc_subject) WHERE oidc_subject IS NOT NULL;

CREATE TABLE session (
    digest bytea PRIMARY KEY,          -- SHA-256 of the cookie
    person_id bigint REFERENCES person ON DELETE CASCADE, -- NULL: the bootstrap token
    csrf text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE TABLE api_token (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    digest bytea NOT NULL UNIQUE,
    role text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer')),
    person_id bigint REFERENCES person ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz
);

CREATE TABLE login_attempt (           -- rate limit: failures per source and name
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
