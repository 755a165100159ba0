"""What every store must do, and what only the embedded database can get wrong."""
