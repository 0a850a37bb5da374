"""Real inferences on the testbed: how fast each strategy is, and how well that was predicted."""
