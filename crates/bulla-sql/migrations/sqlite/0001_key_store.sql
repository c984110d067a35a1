-- The key store: wrapped DEKs, their lineages, their KEKs, and who uses them.
--
-- Times are milliseconds since 1970 by the clock of the database. Revisions count
-- the mutations of the store; a row carries the revision that touched it last.
-- The CHECKs repeat what the library validates, so that nobody else can write what
-- the library would refuse to read.

-- "BULA": tells a key store from any other SQLite file.
PRAGMA application_id = 1112886337;

CREATE TABLE store_meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- Made at random when the store was created.
    store_id TEXT NOT NULL CHECK (length(store_id) = 32),
    -- Bumped by every restore from a backup.
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    rev INTEGER NOT NULL CHECK (rev >= 0)
) STRICT;

CREATE TABLE keks (
    kek_pk INTEGER PRIMARY KEY,
    uri TEXT NOT NULL UNIQUE CHECK (length(CAST(uri AS BLOB)) BETWEEN 1 AND 512),
    -- A branch key is a DEK of this store that wraps others.
    parent_key_id BLOB REFERENCES deks (key_id),
    state TEXT NOT NULL
        CHECK (state IN ('enabled', 'disabled', 'pending-destruction', 'destroyed'))
) STRICT;

CREATE TABLE kek_versions (
    kek_pk INTEGER NOT NULL REFERENCES keks (kek_pk),
    label TEXT NOT NULL CHECK (length(CAST(label AS BLOB)) BETWEEN 1 AND 255),
    state TEXT NOT NULL
        CHECK (state IN ('enabled', 'disabled', 'pending-destruction', 'destroyed')),
    -- When its KMS made it, where that is known.
    created_at INTEGER,
    first_seen INTEGER NOT NULL,
    PRIMARY KEY (kek_pk, label)
) STRICT, WITHOUT ROWID;

CREATE TABLE scopes (
    scope_pk INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL CHECK (length(CAST(tenant AS BLOB)) BETWEEN 1 AND 255),
    purpose TEXT NOT NULL CHECK (length(CAST(purpose AS BLOB)) BETWEEN 1 AND 255),
    -- Who is making the next version, and until when nobody else should.
    claim_owner TEXT CHECK (length(CAST(claim_owner AS BLOB)) BETWEEN 1 AND 64),
    claim_until INTEGER,
    UNIQUE (tenant, purpose),
    CHECK ((claim_owner IS NULL) = (claim_until IS NULL))
) STRICT;

CREATE TABLE deks (
    key_id BLOB PRIMARY KEY CHECK (length(key_id) = 32),
    scope_pk INTEGER NOT NULL REFERENCES scopes (scope_pk),
    version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    state TEXT NOT NULL CHECK (
        state IN ('pending', 'active', 'decrypt-only', 'disabled', 'shredded', 'final')
    ),
    created_at INTEGER NOT NULL,
    -- Not before this does a pending version become active.
    activate_at INTEGER NOT NULL,
    rev INTEGER NOT NULL CHECK (rev >= 1),
    -- Decides between processes that make the same version.
    UNIQUE (scope_pk, version)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX deks_active ON deks (scope_pk) WHERE state = 'active';
CREATE INDEX deks_pending ON deks (version) WHERE state = 'pending';
-- The change feed.
CREATE INDEX deks_rev ON deks (rev);

CREATE TABLE wraps (
    key_id BLOB NOT NULL REFERENCES deks (key_id),
    slot INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 255),
    kek_pk INTEGER NOT NULL REFERENCES keks (kek_pk),
    -- NULL: neither the KMS nor the wrapped bytes tell.
    kek_version TEXT,
    version_source TEXT CHECK (version_source IN ('reported', 'parsed')),
    blob BLOB NOT NULL CHECK (length(blob) BETWEEN 1 AND 1024),
    -- For compare-and-swap; counts the wraps that this slot has had.
    wrap_rev INTEGER NOT NULL CHECK (wrap_rev >= 1),
    wrapped_at INTEGER NOT NULL,
    rev INTEGER NOT NULL CHECK (rev >= 1),
    PRIMARY KEY (key_id, slot),
    FOREIGN KEY (kek_pk, kek_version) REFERENCES kek_versions (kek_pk, label),
    CHECK ((kek_version IS NULL) = (version_source IS NULL))
) STRICT, WITHOUT ROWID;

-- Where used: KEK version to wraps.
CREATE INDEX wraps_kek ON wraps (kek_pk, kek_version);

-- Which KEK versions have wrapped a DEK before, without the blobs: a copy in a
-- backup can be opened for as long as one of them exists.
CREATE TABLE wrap_log (
    log_pk INTEGER PRIMARY KEY,
    key_id BLOB NOT NULL REFERENCES deks (key_id),
    slot INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 255),
    kek_pk INTEGER NOT NULL REFERENCES keks (kek_pk),
    kek_version TEXT,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    FOREIGN KEY (kek_pk, kek_version) REFERENCES kek_versions (kek_pk, label)
) STRICT;

CREATE INDEX wrap_log_key ON wrap_log (key_id);
CREATE INDEX wrap_log_kek ON wrap_log (kek_pk, kek_version);

-- Running processes.
CREATE TABLE members (
    member TEXT PRIMARY KEY CHECK (length(CAST(member AS BLOB)) BETWEEN 1 AND 64),
    seen_at INTEGER NOT NULL,
    alive_until INTEGER NOT NULL,
    -- The revision up to which it knows every change.
    acked_rev INTEGER NOT NULL CHECK (acked_rev >= 0),
    -- How long it may go on sealing without reaching the store.
    seal_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
