"""Metadata: what the groups replicate, each into one SQLite database, and how the rest of the node reaches it."""
