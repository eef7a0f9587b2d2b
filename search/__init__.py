"""Many candidates, scored: a search proposes them, an ablation designs them.

Read protocol.py first: it is the order of a search (prepare, search, select, freeze, confirm). Then
contest.py (how one candidate is scored), world.py (where scores come from) and effects.py (when a
difference is called one). Nothing here knows of terminals; only study.py knows of Optuna.
"""
