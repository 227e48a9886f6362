"""The composition root: builds every part of a node, starts and stops them in order, and the `dwd` command."""
