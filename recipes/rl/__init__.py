"""Reinforcement learning of one stage: what is asked, fed, optimised, drawn and left behind."""
