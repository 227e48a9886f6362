"""The tables, as SQL that reads as documentation: `common.sql` for every group, and one file a kind of group."""
