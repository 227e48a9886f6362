"""Measurements of a running cluster, and the demo."""
