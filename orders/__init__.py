"""The order gateway: who may order, what an order is, its way to the supplier, and the log of all of it."""
