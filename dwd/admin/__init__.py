"""The operators' side of a node: status, users, buckets and objects, joins, background work, health over HTTP."""
