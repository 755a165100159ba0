"""Bytes to columns: framing, blocks and the parsers. Pure: no socket, no clock, no file."""
