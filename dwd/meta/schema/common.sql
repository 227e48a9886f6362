-- Tables that the database of every group has.

-- Where in the log this database stands. One row; changes in the same transaction as what the entries did.
CREATE TABLE position (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    cluster TEXT NOT NULL,
    group_id INTEGER NOT NULL,
    log_index INTEGER NOT NULL,
    term INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    configuration BLOB NOT NULL,       -- dwd.meta.store.configuration
    version INTEGER NOT NULL           -- active version of this group's commands
) STRICT;

-- Who proposes, and what its unacknowledged commands came to (raft.md section 4).
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    used INTEGER NOT NULL,             -- log index of its last command: the least recently used are evicted
    lowest INTEGER NOT NULL,           -- sequences below were acknowledged by the client
    results BLOB NOT NULL              -- of the sequences from there on, see dwd.meta.core.sessions
) STRICT;
