"""Mailboxes of Microsoft Graph."""
