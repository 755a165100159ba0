"""SecurityController: users, their passwords, roles, tokens and sessions."""
