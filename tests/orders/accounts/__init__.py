"""Users, passwords, tokens and sessions, over every store of accounts."""
