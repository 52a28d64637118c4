-- Which connections are to one mailbox: their sessions are counted together.
CREATE INDEX connection_mailbox
    ON connection (lower(coalesce(nullif(shared_mailbox, ''), username))) WHERE enabled;
