"""What the MES modules promise."""
