"""Logging in, staying logged in, and what each role may do."""
