"""Jobs and handlers' queues against real brokers."""
