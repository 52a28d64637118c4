"""Connections to servers: addresses, TLS, octet streams with limits, HTTPS, SASL mechanisms."""
