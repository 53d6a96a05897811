"""Exams that are a folder: what they ask, what proves them, and how what they are made of is read."""
