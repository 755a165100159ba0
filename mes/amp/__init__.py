"""The supplier AMP's side of an order: products and prices, orders, and the production queue."""
