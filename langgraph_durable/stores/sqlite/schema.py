"""The tables of the SQLite store, all named `durable_...`: they can live beside anybody else's in one file.

threads      one row a thread; `epoch` is drawn anew whenever something of the thread goes
namespaces   the checkpoint namespaces of a thread
checkpoints  in order of insertion by `key`. `parts` is a msgpack list with a ref per channel:
                 17                         a chunk by its key
                 ["z", bytes]               a small value, its kind and its bytes
                 [[list, start, stop] ...]  elements `start` to `stop` of lists, one run after the other
                 [17, 1, 18, 1 ...]         chunk keys, each with the number of its elements
writes       one row a call of `put_writes`, in order; `entries` is a msgpack list of [index, channel, ref]. They are
             kept by the checkpoint's id: it may be stored after them, or by an official saver
chunks       the values; `digest` names a value inside its thread, so that it is there once
lists        what the elements below belong to: a list only ever grows at its end, and versions are runs of it
elements     a chunk per row, that holds elements `position` to `position + count` of its list
standings    how a namespace stands, one row each; `serial` grows whenever it changes, `newest` is the id of the newest
             checkpoint, `about` a msgpack list of the other fields of `core.records.Standing`
next         which nodes are next after a checkpoint, by its key; '' where none is
tags         checkpoints at which something failed, or asked somebody
leases       which thread is run by whom; a row goes with its lease
tombstones   which checkpoints were deleted, as hashes, so that a late write can be told
meta         the schema's version; the key of digests, sealed by the serializer
"""

from __future__ import annotations

VERSION = 2
"""The tables of version 1 are all in version 2, which has `standings`, `next`, `tags` and `leases` besides."""

CREATE = """
CREATE TABLE IF NOT EXISTS durable_meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durable_threads (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS durable_namespaces (
    key INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    ns TEXT NOT NULL,
    UNIQUE (thread, ns)
);
CREATE TABLE IF NOT EXISTS durable_checkpoints (
    key INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    id TEXT NOT NULL,
    parent TEXT,
    run TEXT,
    metadata TEXT NOT NULL,
    exact_kind TEXT,
    exact BLOB,
    head_kind TEXT NOT NULL,
    head BLOB NOT NULL,
    parts BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS durable_checkpoint_ids ON durable_checkpoints (namespace, id);
CREATE INDEX IF NOT EXISTS durable_checkpoint_order ON durable_checkpoints (namespace);
CREATE INDEX IF NOT EXISTS durable_checkpoint_runs ON durable_checkpoints (run) WHERE run IS NOT NULL;
CREATE TABLE IF NOT EXISTS durable_writes (
    namespace INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    position INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    task_path TEXT NOT NULL,
    replaces INTEGER NOT NULL,
    entries BLOB NOT NULL,
    PRIMARY KEY (namespace, checkpoint, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durable_chunks (
    key INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    digest BLOB NOT NULL,
    kind TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS durable_chunk_digests ON durable_chunks (thread, digest);
CREATE TABLE IF NOT EXISTS durable_lists (
    key INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS durable_list_threads ON durable_lists (thread);
CREATE TABLE IF NOT EXISTS durable_elements (
    list INTEGER NOT NULL,
    position INTEGER NOT NULL,
    count INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    PRIMARY KEY (list, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durable_standings (
    namespace INTEGER PRIMARY KEY,
    serial INTEGER NOT NULL,
    status TEXT NOT NULL,
    created REAL,
    updated REAL NOT NULL,
    checkpoints INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    newest TEXT NOT NULL,
    about BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS durable_standing_status ON durable_standings (status) WHERE status != 'idle';
CREATE TABLE IF NOT EXISTS durable_next (
    namespace INTEGER NOT NULL,
    node TEXT NOT NULL,
    checkpoint INTEGER NOT NULL,
    PRIMARY KEY (namespace, node, checkpoint)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durable_tags (
    namespace INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (namespace, checkpoint)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durable_leases (
    thread TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    holder TEXT NOT NULL,
    stop INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS durable_tombstones (
    thread INTEGER NOT NULL,
    name INTEGER NOT NULL,
    buried INTEGER NOT NULL,
    PRIMARY KEY (thread, name)
) WITHOUT ROWID;
"""
