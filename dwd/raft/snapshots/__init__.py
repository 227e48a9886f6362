"""Moving whole copies of a state machine from one node to another."""
