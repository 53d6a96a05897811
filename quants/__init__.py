"""Model files: what is in them, where they come from, and how much memory they need."""
