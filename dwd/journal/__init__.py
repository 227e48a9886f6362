"""Checksummed frames in batches, group commit and torn-tail recovery; users bring their own segment policies."""
