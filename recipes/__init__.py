"""The stages of a whole experiment and their order: recipes in YAML, RL, the embedded family.

Read recipe.py first (what a recipe is), then runner.py (what is run, and what is not run again) and
stages.py (the kinds of stages). rl/ trains; tiny/ makes and holds the embedded family.
"""
