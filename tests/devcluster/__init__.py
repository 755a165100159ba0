"""Tests of the Cassandra that is started on this machine."""
