"""Group 0: topology, layouts, buckets, users, keys, settings, the shard map."""
