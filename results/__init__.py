"""What comes out: the schema of a row, the store that survives crashes, tables and statistics."""
