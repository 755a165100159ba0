"""Headrace: telemetry from shop-floor machines into a factory's database, no record lost.

This package starts here: the command line, the configuration file, and the wiring of one process.
"""
