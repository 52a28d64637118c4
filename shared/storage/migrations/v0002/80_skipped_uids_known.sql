-- Of a folder that was re-created: mails that were skipped at the start are known by the UIDs that they have
-- now, and are not told by the dates of their arrival any more.
ALTER TABLE connection_state ADD COLUMN skipped_known boolean NOT NULL DEFAULT false;
