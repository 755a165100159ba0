"""The order gateway: accounts, orders and the log."""
