-- The ledger: one row a mail, partitioned by the time in its id (UUIDv7), and the work left to do.

CREATE TABLE message (
    id uuid NOT NULL PRIMARY KEY,
    connection_id bigint NOT NULL,
    folder text NOT NULL,
    uid_validity bigint,
    native_key text NOT NULL,
    correlation_id uuid,               -- of the fetch job: in every log line of the mail's way
    sequence bigint NOT NULL,
    size bigint NOT NULL,
    sha256 bytea NOT NULL,
    raw_key text NOT NULL,
    raw_offset bigint NOT NULL,
    message_id text NOT NULL DEFAULT '',
    sender text NOT NULL DEFAULT '',
    recipients text[] NOT NULL DEFAULT '{}',
    cc text[] NOT NULL DEFAULT '{}',
    sender_name text NOT NULL DEFAULT '',
    recipient_names text[] NOT NULL DEFAULT '{}', -- as many as recipients, or none
    cc_names text[] NOT NULL DEFAULT '{}',
    provider_thread text NOT NULL DEFAULT '', -- X-GM-THRID, conversationId
    thread text NOT NULL DEFAULT '',   -- the first message id of its thread, where not its own
    labels text[] NOT NULL DEFAULT '{}', -- X-GM-LABELS, categories: as they were when it came
    findings jsonb,                    -- what of the header others may read differently
    subject text NOT NULL DEFAULT '',
    sent_at timestamptz,
    arrived_at timestamptz,
    downloaded_at timestamptz NOT NULL,
    settled_at timestamptz,
    settled_as text NOT NULL DEFAULT '', -- read, deleted, vanished, or nothing (POP3 marks none)
    opened_at timestamptz,
    published_at timestamptz,
    security jsonb,
    facts jsonb,                       -- what rules may ask (shared.rules.facts), for dry runs
    kind text NOT NULL DEFAULT 'person', -- what `facts` say, apart: see `undecrypted`
    redeliveries integer NOT NULL DEFAULT 0, -- how often it was asked for on purpose
    unwanted boolean NOT NULL DEFAULT false, -- the rules of every handler left it out
    -- What `security` says, apart: indexed there, each outcome would have to be written to every index.
    undecrypted boolean NOT NULL DEFAULT false,
    opened_key text,
    opened_offset bigint,
    opened_size bigint,
    opened_sha256 bytea,
    terms integer[] NOT NULL DEFAULT '{}' -- what a search finds it by (shared.mail.search_terms)
) PARTITION BY RANGE (id);
CREATE INDEX message_connection ON message (connection_id, id DESC);
CREATE INDEX message_message_id ON message (message_id) WHERE message_id <> '';
-- Few rows: the mails that stayed encrypted, to be driven again once a certificate fits.
CREATE INDEX message_undecrypted ON message (id DESC) WHERE undecrypted;
CREATE INDEX message_unwanted ON message (id DESC) WHERE unwanted;
-- Of answers, and of mails that machines sent: most mails begin a thread and are a person's, and
-- stay out of these.
CREATE INDEX message_thread ON message (thread) WHERE thread <> '';
CREATE INDEX message_kind ON message (kind, id DESC) WHERE kind <> 'person';
CREATE INDEX message_provider_thread ON message (provider_thread) WHERE provider_thread <> '';
-- What is new waits in a list of 16 MiB, which a search reads too, and goes into the index together:
-- that costs a fifth of writing it there mail by mail.
CREATE INDEX message_terms ON message USING gin (terms) WITH (gin_pending_list_limit = 16384);
-- Each row is changed twice soon after it was written: with room beside it no index hears of that.
CREATE TABLE message_rest PARTITION OF message DEFAULT WITH (fillfactor = 50);

-- One row a mail and handler, once its event is confirmed by the output queue.
CREATE TABLE delivery (
    message_id uuid NOT NULL,
    handler_id bigint NOT NULL,
    published_at timestamptz NOT NULL,
    position text NOT NULL DEFAULT '', -- stream id on Redis
    repeats integer NOT NULL DEFAULT 0,
    note text NOT NULL DEFAULT '',     -- why it was given in doubt
    redelivery jsonb,                  -- {count, time, reason}: it was given on purpose once more
    PRIMARY KEY (message_id, handler_id)
) PARTITION BY RANGE (message_id);
CREATE INDEX delivery_handler ON delivery (handler_id, published_at);
CREATE TABLE delivery_rest PARTITION OF delivery DEFAULT WITH (fillfactor = 80);

-- One row a mail and handler that does not get it: its own rules left the mail out, or another
-- handler of its group has it. As final as a delivery, until somebody delivers it on purpose.
CREATE TABLE filtered (
    message_id uuid NOT NULL,
    handler_id bigint NOT NULL,
    decided_at timestamptz NOT NULL,
    decided_by text NOT NULL CHECK (decided_by IN ('rules', 'group')),
    reason text NOT NULL,
    PRIMARY KEY (message_id, handler_id)
) PARTITION BY RANGE (message_id);
CREATE INDEX filtered_handler ON filtered (handler_id, message_id DESC);
CREATE TABLE filtered_rest PARTITION OF filtered DEFAULT;

-- What was so of a mail and is not any more: deliveries before the last one, openings before the
-- last one, times in quarantine, what handlers rejected. Few rows; nothing changes them.
CREATE TABLE message_history (
    message_id uuid NOT NULL,
    at timestamptz NOT NULL,
    what text NOT NULL,                -- a word of shared.storage.history
    handler_id bigint,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX message_history_message ON message_history (message_id);

-- Mails that are safe here and not yet published to every handler. Narrow, short-lived rows.
CREATE TABLE outbox (
    message_id uuid PRIMARY KEY,
    connection_id bigint NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    emissions integer NOT NULL DEFAULT 0,  -- how often a job was sent again for it
    attempts integer NOT NULL DEFAULT 0,   -- how often a decryptor began with it
    claim uuid,
    claimed_until timestamptz,
    initial boolean NOT NULL DEFAULT true, -- false: only the handlers named here, again
    repeat_handlers bigint[] NOT NULL DEFAULT '{}',
    asked_handlers bigint[] NOT NULL DEFAULT '{}', -- these too, where their rules take it
    had_handlers bigint[] NOT NULL DEFAULT '{}', -- these had it under another label
    chosen bigint[],                       -- whom the rules chose: decided before it is published
    doubts jsonb,                          -- {handler: why it gets the mail in doubt}
    redeliveries jsonb NOT NULL DEFAULT '{}', -- {handler: {count, time, reason}}: asked for on purpose
    missing_since timestamptz,             -- the store did not have its bytes, from then on
    error text
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_due ON outbox (next_attempt_at);
CREATE INDEX outbox_connection ON outbox (connection_id);

-- Mails whose ledger row is committed and which the server has still to mark read or delete.
CREATE TABLE settlement (
    connection_id bigint NOT NULL,     -- no reference: checked row by row, it doubles the cost
    folder text NOT NULL,
    uid_validity bigint NOT NULL DEFAULT 0,
    native_key text NOT NULL,
    message_id uuid NOT NULL,
    flagged_at timestamptz,            -- flagged deleted by us, and the server cannot remove it yet
    PRIMARY KEY (connection_id, folder, uid_validity, native_key)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- What a mailbox already gave. UIDs as ranges; a multirange stays small whatever its traffic.
CREATE TABLE known_uid (
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    folder text NOT NULL,
    uid_validity bigint NOT NULL,
    uids int8multirange NOT NULL DEFAULT '{}',
    PRIMARY KEY (connection_id, folder, uid_validity)
);

-- UIDLs and Graph ids as 16-octet digests, pruned when the server no longer lists them.
CREATE TABLE known_key (
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    folder text NOT NULL,
    digest bytea NOT NULL,
    vanished_on date,                  -- first day the server no longer listed it
    content bytea,                     -- header digest, to know the mail when all keys change
    PRIMARY KEY (connection_id, folder, digest)
);

-- Header digests of mails that are still on an IMAP server, to know them again when UIDVALIDITY
-- changes. Pruned with the UIDs that vanish; once a day they go to `packed_content`, but for Google's.
CREATE TABLE known_content (
    connection_id bigint NOT NULL,     -- no reference: checked row by row, it doubles the cost
    folder text NOT NULL,
    uid_validity bigint NOT NULL,
    uid bigint NOT NULL,
    digest bytea NOT NULL,
    gmail_id bigint,                   -- X-GM-MSGID: one mail under several labels
    message_id uuid,
    PRIMARY KEY (connection_id, folder, uid_validity, uid)
);
CREATE INDEX known_content_gmail ON known_content (gmail_id) WHERE gmail_id IS NOT NULL;

-- The same, some 400 mails to a row of half a page (shared.storage.packed_contents). Read when
-- UIDVALIDITY changed, and once a day.
CREATE TABLE packed_content (
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    folder text NOT NULL,
    uid_validity bigint NOT NULL,
    number integer NOT NULL,
    uids bytea NOT NULL,               -- as runs
    digests bytea NOT NULL,            -- ten octets each, in the order of the UIDs
    PRIMARY KEY (connection_id, folder, uid_validity, number)
);
-- In the row itself: digests cannot be compressed, and a row is cut to half a page.
ALTER TABLE packed_content ALTER COLUMN uids SET STORAGE PLAIN,
    ALTER COLUMN digests SET STORAGE PLAIN;

-- Mails at which a download broke off or was refused for now: each is asked for alone, after all
-- others. Few rows, gone once the mail was had, put aside, or is no longer on its server.
CREATE TABLE download_failure (
    connection_id bigint NOT NULL REFERENCES connection ON DELETE CASCADE,
    folder text NOT NULL,
    uid_validity bigint NOT NULL DEFAULT 0,
    native_key text NOT NULL,
    first boolean NOT NULL,            -- it was under way; the others were still to come
    alone integer NOT NULL DEFAULT 0,  -- how often it failed while it was asked for alone
    octets bigint NOT NULL DEFAULT 0,  -- how many of its octets had come when it last did
    alike integer NOT NULL DEFAULT 0,  -- how often in a row it did so after that many octets
    others boolean NOT NULL DEFAULT false, -- other mails were given since
    PRIMARY KEY (connection_id, folder, uid_validity, native_key)
);

-- Mails that could not be processed, with the reason; raw_key is NULL where the mail was left on
-- the server (over the size limit).
CREATE TABLE quarantine (
    id uuid PRIMARY KEY,               -- the message id where there is one
    connection_id bigint NOT NULL,
    folder text NOT NULL DEFAULT '',
    native_key text NOT NULL DEFAULT '',
    uid_validity bigint NOT NULL DEFAULT 0,
    code text NOT NULL,
    reason text NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    raw_key text,
    raw_offset bigint,
    -- Of a mail that was left on its server, read of its header alone; else they are in the ledger.
    message_id text NOT NULL DEFAULT '',
    sender text NOT NULL DEFAULT '',
    subject text NOT NULL DEFAULT '',
    sent_at timestamptz,
    work jsonb,                        -- its row of the outbox: for whom it was, who has it
    alerted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quarantine_connection ON quarantine (connection_id, id DESC);
