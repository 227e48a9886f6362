"""The Raft state machine of one replica, sans-IO: messages and ticks in, one `Effects` out."""
