"""What the benchmarks promise, beside the figures."""
