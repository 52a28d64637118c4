"""Sending events to the endpoint of a forward: what is sent, and how it went."""
