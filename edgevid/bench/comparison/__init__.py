"""Comparison of bench results: pairing of jobs, tests, verdicts. Host only."""
