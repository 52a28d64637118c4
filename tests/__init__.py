"""Tests against real servers, which the session starts itself."""
