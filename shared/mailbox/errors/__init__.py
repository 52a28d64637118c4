"""What servers and providers say when they refuse, and what it means."""
