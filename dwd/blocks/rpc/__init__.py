"""Fragments over the wire: batched streams for small ones, calls of their own for large ones."""
