"""Erasure-coded block storage on devices: where object data lives."""
