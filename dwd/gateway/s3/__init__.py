"""The S3 operations, one file per resource and verb: typed request in, calls on the objects port, reply out."""
