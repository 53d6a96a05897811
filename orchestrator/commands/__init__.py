"""What the commands do, callable without the command line; their options are in orchestrator/cli."""
