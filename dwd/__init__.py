"""dwd: the storage daemon of a cluster."""
