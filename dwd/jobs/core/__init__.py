"""Which node runs which job: decisions without I/O."""
