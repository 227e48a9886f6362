"""Databases on disk: generations, the writer that applies, the readers that answer."""
