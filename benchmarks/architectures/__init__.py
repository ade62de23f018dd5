"""Benchmarks of the architectures that the export takes: the table, their speed, and int8 of trained ones."""
