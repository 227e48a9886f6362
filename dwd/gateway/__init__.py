"""The doors for applications: S3 over HTTP. A sans-IO core, one handler per resource and verb, one server."""
