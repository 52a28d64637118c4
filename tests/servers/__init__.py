"""Real servers for tests and benchmarks: one module a server, usable outside pytest too.

Each is a context manager on a free loopback port with a folder of its own; nothing is left behind.
"""
