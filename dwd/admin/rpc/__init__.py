"""The Admin service on the wire."""
