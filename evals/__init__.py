"""Tasks with verifiers, generation, the item ledger, statistics, and the door to lm-eval."""
