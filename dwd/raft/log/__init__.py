"""The node's log: every group's entries and hard state in one journal, one fdatasync for all of them."""
