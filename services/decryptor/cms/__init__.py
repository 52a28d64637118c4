"""Cryptographic Message Syntax (RFC 5652), as mail uses it: a reader, never a writer.

Structures are walked where they lie (octets or a memory-mapped file), in linear time and with
bounded memory; nothing is copied but the content itself.
"""
