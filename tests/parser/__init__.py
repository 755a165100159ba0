"""Bytes to columns: the two parsers agree, whatever the bytes and however they were cut."""
