"""Histories of nights, simulated with our own gate."""
