"""What a change of the nodes would mean. Sans-IO."""
