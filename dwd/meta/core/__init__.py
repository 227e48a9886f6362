"""The state machines: commands, rows and queries as values, and what each does to a database. Sans-IO."""
