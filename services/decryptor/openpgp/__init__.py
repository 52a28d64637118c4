"""OpenPGP (RFC 9580) in mail: PGP/MIME (RFC 3156), and between its own lines in a text.

The cryptography is Sequoia's, through its Python binding: of the OpenPGP implementations that a
Python program can call, the one that is written as a library, knows RFC 9580, and is kept. It
refuses what has no integrity protection, so whatever opens is reported as protected.
"""
