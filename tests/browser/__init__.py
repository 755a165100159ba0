"""The pages in a real headless Chromium, fed by a shop floor in memory."""
