"""Tests of the way from the sockets to the sinks."""
