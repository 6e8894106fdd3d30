"""Sweeps: every job a process of its own, a status for each, and what is unfinished can be resumed."""
