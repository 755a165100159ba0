"""What `headrace bench` runs. README.md opens with method and bias."""
