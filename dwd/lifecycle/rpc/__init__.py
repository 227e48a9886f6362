"""What other nodes are asked for the jobs of nodes."""
