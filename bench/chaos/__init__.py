"""Faults on a testbed, one after the other, while clients ask: is every request answered, or refused in time?"""
