-- Requests at mailboxes of Graph, counted over all processes. Worth nothing after a crash. In place of
-- request_slot, which services of release 0.1 still write while they are replaced.
CREATE UNLOGGED TABLE request_process (
    holder uuid PRIMARY KEY,
    until timestamptz NOT NULL         -- its last sign of life counts until then
);
CREATE UNLOGGED TABLE request_permit (  -- permits of a process at a mailbox
    mailbox text NOT NULL,
    holder uuid NOT NULL REFERENCES request_process ON DELETE CASCADE,
    held smallint NOT NULL,
    wants smallint NOT NULL DEFAULT 0, -- so many more, in vain so far
    waits_since timestamptz,
    waits_until timestamptz,
    PRIMARY KEY (mailbox, holder)
);
CREATE INDEX request_permit_holder ON request_permit (holder);
CREATE INDEX request_permit_waits ON request_permit (mailbox) WHERE waits_since IS NOT NULL;
CREATE UNLOGGED TABLE request_budget (
    budget text PRIMARY KEY,           -- of a mailbox, or an application at its provider
    used_until timestamptz NOT NULL    -- when the rate has covered all that was taken
);
