"""Merge fine-tuned checkpoints of one base model, search the weights, explain the gain."""
