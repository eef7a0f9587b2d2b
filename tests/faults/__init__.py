"""Faults, put on real commands: killed, full, cut, changed, twice. `python -m tests.faults`."""
