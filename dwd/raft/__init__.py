"""Consensus: a pure core (`core/`) and the host that runs many groups of it over one shared log."""
