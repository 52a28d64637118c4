"""Sending events to the far side of a forward: what is sent, and how it went."""
