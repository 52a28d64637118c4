"""A mailbox to try Posthouse with: server, mails, certificate, and a handler that prints."""
