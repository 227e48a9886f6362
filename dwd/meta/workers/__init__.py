"""Background work of metadata: membership, liveness, deletion, upkeep. Each acts only where this node leads."""
