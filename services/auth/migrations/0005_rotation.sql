-- Secrets on their way to their owners. All but the plaintext follows from the state of the key and is written in the
-- transaction of each append: what is not needed any more is gone when the event that says so is there.

CREATE TABLE pending_secret (
    key_id    text        NOT NULL REFERENCES key_view,
    version   integer     NOT NULL,
    sealed    bytea       NOT NULL,                             -- the plaintext, sealed under a pepper
    minted_at timestamptz NOT NULL,
    PRIMARY KEY (key_id, version)
);

CREATE TABLE delivery (
    key_id        text        NOT NULL,
    version       integer     NOT NULL,
    way           text        NOT NULL,                         -- the short name of the target
    target        jsonb       NOT NULL,
    created_at    timestamptz NOT NULL,
    next_at       timestamptz NOT NULL,                         -- not tried before
    claimed_until timestamptz,                                  -- an instance is at it
    attempts      integer     NOT NULL DEFAULT 0,
    last_error    text,
    signalled_at  timestamptz,
    PRIMARY KEY (key_id, version, way),
    FOREIGN KEY (key_id, version) REFERENCES pending_secret ON DELETE CASCADE
);

CREATE INDEX delivery_by_time ON delivery (next_at);

CREATE TABLE collected_secret (                                 -- kept for minutes: the answer may be lost
    claim   text        PRIMARY KEY,                            -- only the same request, repeated, draws it again
    sealed  bytea       NOT NULL,
    version integer     NOT NULL,
    at      timestamptz NOT NULL
);

CREATE TABLE version_end (
    key_id    text        NOT NULL REFERENCES key_view,
    version   integer     NOT NULL,
    not_after timestamptz NOT NULL,                             -- when somebody must look at it
    PRIMARY KEY (key_id, version)
);

CREATE INDEX version_end_by_time ON version_end (not_after);

CREATE TABLE signal_outbox (
    id            uuid        PRIMARY KEY,                      -- derived: the same signal stands here once
    number        bigint      GENERATED ALWAYS AS IDENTITY,
    subject       text        NOT NULL,
    body          jsonb       NOT NULL,
    claimed_until timestamptz
);

CREATE INDEX signal_outbox_in_order ON signal_outbox (number);

CREATE INDEX key_rotating ON key_view (created_at DESC, key_id DESC)
    WHERE deleted_at IS NULL AND jsonb_typeof(body -> 'rotation') = 'object';
