"""The gateway's own book of orders: what it was asked for, and what became of it."""
