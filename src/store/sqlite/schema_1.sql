-- Moments are milliseconds since 1970 (UTC). Ids are 16 random bytes.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    realm         TEXT NOT NULL,
    name          TEXT NOT NULL,
    first_seen_at INTEGER,                        -- null: only counted or reset, never met
    last_login_at INTEGER,
    blocked       INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    failures      INTEGER NOT NULL DEFAULT 0,     -- attempts since the last success
    wait_until    INTEGER NOT NULL DEFAULT 0,
    void_before   INTEGER,                        -- what was proved earlier is void …
    void_until    INTEGER,                        -- … and from here on dead anyway
    UNIQUE (realm, name)
) STRICT;

CREATE INDEX users_void ON users (void_until) WHERE void_until IS NOT NULL;
CREATE INDEX users_blocked ON users (blocked) WHERE blocked = 1;

CREATE TABLE authenticators (
    seq          INTEGER PRIMARY KEY,             -- oldest first
    id           BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    user         INTEGER NOT NULL REFERENCES users (id),
    method       TEXT NOT NULL,
    name         TEXT NOT NULL,
    confirmed_at INTEGER NOT NULL,
    last_used_at INTEGER,
    secret       BLOB NOT NULL,                   -- sealed to realm, user, id and method
    last_step    INTEGER NOT NULL,
    drift_steps  INTEGER NOT NULL
) STRICT;

CREATE INDEX authenticators_user ON authenticators (user);

CREATE TABLE consumed_logins (
    login BLOB PRIMARY KEY CHECK (length(login) = 16),
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX consumed_logins_until ON consumed_logins (until);

CREATE TABLE ended_sessions (
    session BLOB PRIMARY KEY CHECK (length(session) = 16),
    until   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ended_sessions_until ON ended_sessions (until);

CREATE TABLE devices (
    device        BLOB PRIMARY KEY CHECK (length(device) = 16),
    owner         INTEGER NOT NULL REFERENCES users (id),
    epoch         INTEGER NOT NULL,
    until         INTEGER NOT NULL,
    revoked_until INTEGER NOT NULL DEFAULT 0      -- 0: never changed hands
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_until ON devices (until);
CREATE INDEX devices_owner ON devices (owner);

CREATE TABLE sealed_names (
    app  TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
