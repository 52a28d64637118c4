"""IMAP4rev1 and rev2 mailboxes (RFC 3501, RFC 9051)."""
