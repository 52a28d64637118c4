-- Lets the owner of a mailbox authorise it once, who has no account here.
CREATE TABLE authorisation_link (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    digest bytea NOT NULL UNIQUE,      -- SHA-256 of the token in the link
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    account text NOT NULL DEFAULT '',  -- who logged in with it
    revoked_at timestamptz
);
CREATE INDEX authorisation_link_connection ON authorisation_link (connection_id);
