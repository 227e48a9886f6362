"""Nodes that leave and are replaced: drained, taken back, replaced, removed, each as a job."""
