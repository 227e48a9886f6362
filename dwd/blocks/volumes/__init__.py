"""What one device holds: fragments in append-only volumes, found through an index that the volumes can rebuild."""
