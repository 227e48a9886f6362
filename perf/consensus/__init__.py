"""Three members of each system, a client process that loads them, and what both cost."""
