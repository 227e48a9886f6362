"""What operators see of a node: metric definitions and their export, traces, logs, health."""
