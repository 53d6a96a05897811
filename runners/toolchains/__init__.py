"""What programs of a language are built and run with inside a sandbox."""
