"""The checks and generators behind `make check` and `make proto`."""
