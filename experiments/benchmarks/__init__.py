"""Benchmarks and drills: scripts that print a table."""
