"""Benchmarks of tables: on this machine, and on clusters."""
