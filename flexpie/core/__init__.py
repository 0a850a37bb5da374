"""The nouns every floor shares: regions, layer graphs, operator rules, clusters, plans, programs, errors.

Standard library only: nothing here does I/O, reads a clock, or holds an array.
"""
