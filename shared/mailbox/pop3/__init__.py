"""POP3 mailboxes (RFC 1939)."""
