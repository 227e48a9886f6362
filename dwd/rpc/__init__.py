"""Calls between machines: mutual TLS servers and channels, admission by identity, errors on the wire."""
