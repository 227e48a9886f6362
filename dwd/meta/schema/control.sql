-- Group 0: what every node knows of the cluster. Stamps are hybrid clocks of 48 bits ms, 16 bits counter.

CREATE TABLE cluster (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    cluster TEXT NOT NULL,
    name TEXT NOT NULL,
    authority_certificate BLOB NOT NULL,
    sealed_authority_key BLOB NOT NULL,
    keyring_version INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    node INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    grpc TEXT NOT NULL,
    s3 TEXT NOT NULL,
    admin TEXT NOT NULL,
    region TEXT NOT NULL,
    zone TEXT NOT NULL,
    rack TEXT NOT NULL,
    sealing_key BLOB NOT NULL,
    sealed_keyring BLOB NOT NULL,
    liveness INTEGER NOT NULL,
    liveness_since INTEGER NOT NULL,
    joined INTEGER NOT NULL,
    version_newest INTEGER NOT NULL,    -- of commands, that its binary knows
    standing INTEGER NOT NULL,
    standing_since INTEGER NOT NULL
) STRICT;

-- The latest that were removed: their certificates are refused, their ids do not come back.
CREATE TABLE removed_nodes (node INTEGER PRIMARY KEY, name TEXT NOT NULL, removed INTEGER NOT NULL) STRICT;

CREATE TABLE devices (
    device INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    state INTEGER NOT NULL,
    state_since INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rack TEXT NOT NULL,
    zone TEXT NOT NULL,
    draining INTEGER NOT NULL    -- an operator's wish; `state` is never DRAINING here
) STRICT;
CREATE INDEX devices_node ON devices (node);

-- Every layout that some shard's block row may still name, and the newest of those that none names (retired).
CREATE TABLE layouts (
    epoch INTEGER PRIMARY KEY,
    layout BLOB NOT NULL,
    applied INTEGER NOT NULL,
    retired INTEGER NOT NULL
) STRICT;

-- A layout that waits for an operator to apply it.
CREATE TABLE staged_layout (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL,
    layout BLOB NOT NULL,
    staged INTEGER NOT NULL
) STRICT;

CREATE TABLE buckets (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    profile TEXT NOT NULL,
    state INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    created INTEGER NOT NULL,
    compression INTEGER NOT NULL,      -- a zstd level; 0: none
    encryption INTEGER NOT NULL,       -- of objects whose request says nothing: dwd.meta.core.control.rows.Encryption
    named_key TEXT NOT NULL,
    sealed_key BLOB NOT NULL,          -- the bucket's key, sealed with the cluster keyring
    tier INTEGER NOT NULL,             -- dwd.base.policy.Tier; 0: the cluster's
    criticality INTEGER NOT NULL,      -- dwd.base.policy.Criticality
    allow_fallback INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX buckets_owner ON buckets (owner, name);

CREATE TABLE named_keys (
    name TEXT PRIMARY KEY,
    standing INTEGER NOT NULL,
    created INTEGER NOT NULL,
    sealed_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    admin INTEGER NOT NULL,
    standing INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE access_keys (
    access_key TEXT PRIMARY KEY,
    user TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,
    standing INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX access_keys_user ON access_keys (user, created);

CREATE TABLE join_tokens (
    token TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    used_by INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL, changed INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE shard_map (only INTEGER PRIMARY KEY CHECK (only = 1), epoch INTEGER NOT NULL) STRICT;
CREATE TABLE shard_ranges (start BLOB PRIMARY KEY, group_id INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Long work: who runs it is a lease, whose epoch every mutation of a step carries (dwd.meta.core.control.jobs).
CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,           -- log index of the command that made it
    kind TEXT NOT NULL,
    arguments TEXT NOT NULL,           -- canonical JSON
    plan BLOB NOT NULL,                -- canonical JSON
    plan_hash TEXT NOT NULL,
    state INTEGER NOT NULL,
    step INTEGER NOT NULL,
    done INTEGER NOT NULL,
    total INTEGER NOT NULL,
    blocker TEXT NOT NULL,
    cursor BLOB NOT NULL,
    result TEXT NOT NULL,
    error_code TEXT NOT NULL,
    error TEXT NOT NULL,
    runner INTEGER NOT NULL,           -- 0: nobody
    epoch INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,      -- unix ms, by the stamps of the log
    attempts INTEGER NOT NULL,
    asked_by TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
) STRICT;
