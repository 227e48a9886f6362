"""What objects decide without I/O: how bytes are cut, headers kept, checksums put together."""
