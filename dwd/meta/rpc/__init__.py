"""Proposals and queries between nodes, over one stream a peer."""
