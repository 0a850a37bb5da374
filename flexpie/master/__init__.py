"""The master: plans models over its workers, deploys them, and answers requests."""
