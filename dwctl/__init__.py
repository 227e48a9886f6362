"""dwctl: the command line that operates a dwd cluster."""
