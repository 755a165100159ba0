"""LogHandler: what happened at the gateway, row by row, in a table of its own."""
