"""A whole Posthouse on one machine: its own Postgres, its own broker, every service as a child."""
