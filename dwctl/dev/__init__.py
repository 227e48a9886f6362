"""The development cluster: the daemons and code paths of production, as processes on loopback."""
