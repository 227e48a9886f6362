"""Durable jobs: long work that any node goes on with after its runner died (metadata.md, "Jobs")."""
