"""S3 without I/O: requests to typed values, signatures, checksums, preconditions, documents."""
