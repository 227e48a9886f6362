"""Objects and buckets: the only place that ties metadata to blocks."""
