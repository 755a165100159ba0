"""The log: what every store must do, and a handler that nobody waits for."""
