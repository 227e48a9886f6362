"""Groups 1 and up: objects, blocks, uploads of one range of (bucket, key)."""
