-- Groups 1 and up: object metadata of one range of (bucket, key).
-- Keys are BLOBs of UTF-8: byte order is the order S3 lists in. Stamps are hybrid clocks of 48 bits ms, 16 bits counter.

CREATE TABLE objects (
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    version INTEGER NOT NULL,          -- 0 is the null version; others sort newest first
    size INTEGER NOT NULL,             -- plain bytes
    etag TEXT NOT NULL,
    modified INTEGER NOT NULL,         -- stamp
    changed INTEGER NOT NULL,          -- log index: the change feed is this column's index
    headers BLOB NOT NULL,
    checksum TEXT NOT NULL,
    part_count INTEGER NOT NULL,
    inline_id INTEGER,                 -- exactly one of these three says where the bytes are
    blocks BLOB,                       -- up to 64 block ids of 16 bytes
    manifest INTEGER,
    inline_bytes INTEGER NOT NULL,     -- length of the sealed bytes, -1 when not inline
    sealing BLOB NOT NULL,             -- how its bytes are sealed, with the wrapped key; empty when they are not
    PRIMARY KEY (bucket, key, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX objects_changed ON objects (changed);

-- Sealed bytes of small objects, apart from the rows that listings read. Ids are log indexes: appended, never moved.
CREATE TABLE inline_data (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;

-- Deletions, for those who follow the feed.
CREATE TABLE tombstones (
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    changed INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_changed ON tombstones (changed);

-- The authority on what should exist on devices.
CREATE TABLE blocks (
    place INTEGER NOT NULL,            -- 16 placement bits, from the id
    block BLOB NOT NULL,
    profile TEXT NOT NULL,
    length INTEGER NOT NULL,           -- of what is coded into fragments
    crc32c INTEGER NOT NULL,
    layout_epoch INTEGER NOT NULL,
    handoffs BLOB,                     -- (fragment u16, device u64)...; NULL when none
    missing BLOB,                      -- (fragment u8)...; NULL when none
    refs INTEGER NOT NULL,             -- objects that name it, or 1 for the list that does
    bucket TEXT NOT NULL,              -- the owner written beside its fragments: who stored it first
    key BLOB NOT NULL,
    plain INTEGER NOT NULL,            -- bytes of the object it holds when packed, else 0
    packing INTEGER NOT NULL,          -- dwd.objects.core.packing; 0: the object's bytes as they are
    wanted TEXT,                       -- the profile it should have had; NULL when it has it
    name BLOB,                         -- what objects and lists call it, once it took another block's place; else NULL
    PRIMARY KEY (place, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_repair ON blocks (place, block)
    WHERE handoffs IS NOT NULL OR missing IS NOT NULL OR wanted IS NOT NULL;

-- Blocks that were stored anew (another profile): objects and lists go on naming the one that was first.
CREATE TABLE renamed (
    name BLOB PRIMARY KEY,
    block BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Blocks of large objects and of parts, in rows of up to 1,000, written while uploading.
CREATE TABLE lists (
    list INTEGER PRIMARY KEY,
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    held INTEGER NOT NULL,             -- 0: leased by a put under way; 1: a part or manifest holds it
    touched INTEGER NOT NULL,          -- stamp of the last command that filled it
    blocks INTEGER NOT NULL,
    length INTEGER NOT NULL,           -- bytes of the object
    salt BLOB NOT NULL                 -- of a part's key
) STRICT;
CREATE INDEX lists_leased ON lists (touched) WHERE held = 0;

CREATE TABLE list_rows (
    list INTEGER NOT NULL,
    position INTEGER NOT NULL,         -- blocks before this row
    start INTEGER NOT NULL,            -- bytes of the object before this row
    blocks BLOB NOT NULL,              -- ids of 16 bytes
    PRIMARY KEY (list, position)
) STRICT, WITHOUT ROWID;

-- The lists that make a large or multipart object, in order. Shared by copies.
CREATE TABLE manifests (
    manifest INTEGER PRIMARY KEY,      -- the id of its first list
    refs INTEGER NOT NULL,
    parts BLOB NOT NULL                -- (number u16, list u64, size u64)...
) STRICT;

CREATE TABLE uploads (
    bucket TEXT NOT NULL,
    key BLOB NOT NULL,
    upload TEXT NOT NULL,
    initiated INTEGER NOT NULL,
    touched INTEGER NOT NULL,
    headers BLOB NOT NULL,
    checksum TEXT NOT NULL,
    sealing BLOB NOT NULL,             -- of the object it becomes
    PRIMARY KEY (bucket, key, upload)
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_touched ON uploads (touched);

CREATE TABLE parts (
    upload TEXT NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    checksum TEXT NOT NULL,
    modified INTEGER NOT NULL,
    list INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

-- Deleted things too large for one command; Drain commands take them apart, oldest first.
CREATE TABLE drains (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,             -- dwd.meta.core.shard.drain.DrainKind
    target ANY NOT NULL,               -- list, manifest (its parts follow as lists) or upload
    progress INTEGER NOT NULL
) STRICT;

-- Blocks nobody names any more; a row goes when its fragments are gone from every device.
CREATE TABLE gc (
    block BLOB PRIMARY KEY,
    since INTEGER NOT NULL,
    profile TEXT NOT NULL,
    length INTEGER NOT NULL,
    crc32c INTEGER NOT NULL,
    layout_epoch INTEGER NOT NULL,
    handoffs BLOB,
    missing BLOB
) STRICT, WITHOUT ROWID;

-- What the shard knows of buckets: exact usage, and the gate that deletion closes.
CREATE TABLE buckets (
    bucket TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,            -- writes under an older one are refused
    sealed INTEGER NOT NULL,           -- so are writes under `epoch` itself while this is 1
    objects INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    uploads INTEGER NOT NULL,
    packed INTEGER NOT NULL,           -- bytes of objects in its blocks, each block once
    stored INTEGER NOT NULL            -- what compression and encryption made of them
) STRICT, WITHOUT ROWID;

-- How many rows of blocks and gc name each layout: one that none names may be forgotten.
CREATE TABLE layout_use (layout_epoch INTEGER PRIMARY KEY, blocks INTEGER NOT NULL) STRICT;

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('blocks', 0), ('degraded', 0), ('gc', 0), ('feed_start', 0), ('layout_fence', 0);
INSERT INTO counters VALUES ('job_floor', 0);

-- The highest epoch of each job's lease seen here: a runner under an older one is refused (dwd.meta.core.fencing).
-- A job that is over has the epoch 2^62; jobs below the counter 'job_floor' are over, and have no row.
CREATE TABLE fences (job INTEGER PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;

-- For people: keys as text.
CREATE VIEW objects_readable AS
    SELECT bucket, CAST(key AS TEXT) AS key, size, etag, modified >> 16 AS modified_unix_ms, part_count FROM objects;
