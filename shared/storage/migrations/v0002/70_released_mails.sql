-- Mails that a person released from quarantine: they are fetched also where nobody lists them as new any
-- more, as somebody has read them meanwhile, say.
ALTER TABLE download_failure ADD COLUMN released boolean NOT NULL DEFAULT false;
