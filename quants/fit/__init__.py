"""Whether models fit machines: verdicts, the table of `quantsweep fits`, and the engine's own planner as an oracle."""
