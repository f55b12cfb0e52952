"""From a run's best program to the one that serves, and back.

Invariant: what serves is what the promotion log says; aliases in MLflow follow it.
"""
