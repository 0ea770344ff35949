"""Faults on purpose, in real processes: what the model knows afterwards, and what the caller got."""
