"""Machines: what they have, what is free, and what they did while a model ran."""
