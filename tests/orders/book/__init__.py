"""The gateway's book of orders, on each store."""
