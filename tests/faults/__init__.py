"""Faults of every kind, put to a real server process; see docs/behavior.md for what has to survive them."""
