"""Merge fine-tuned checkpoints of one base model, search the weights, and see where the gain comes from."""
