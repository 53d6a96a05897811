"""The command line: each command parses its options and calls a function that works without it."""

def main() -> None:
    """Entry point of the `quantsweep` console script."""

