"""Benchmarks on the testbed: which cells to measure, measuring them, the file of results, and the report of it.

docs/benchmarks/METHODOLOGY.md says what is measured, and what counts.
"""
