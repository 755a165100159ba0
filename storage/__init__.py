"""The tables: what a store must do (base), and the stores that do it."""
