"""The tests: one folder per room; README.md says where each test goes."""
