"""Machines that do not exist, sent over real sockets, with the truth about them known."""
