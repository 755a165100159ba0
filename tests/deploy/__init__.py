"""Tests of what Headrace is deployed with, as far as they go without a container engine or systemd."""
