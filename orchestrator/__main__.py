"""`python -m orchestrator`: the same as the `quantsweep` console script."""

from orchestrator.cli import main

main()
