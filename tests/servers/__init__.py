"""Real servers for the tests, each a plain class that benches and rigs use too."""
