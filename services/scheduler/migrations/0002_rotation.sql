-- When the secrets of keys are due to be replaced: folded from auth's log, and decided here.

-- One row per key, with a schedule or without one. Everything here can be dropped and folded again.
CREATE TABLE rotation (
    key_id      text        PRIMARY KEY,
    org_id      text        NOT NULL,
    team_id     text,
    reach       text,                              -- of the key's role: whoever reaches less does not hear of the key
    alias       text,
    blocked     boolean     NOT NULL,
    expires_at  timestamptz,
    deleted_at  timestamptz,                       -- deleted keys stay for a while: signals of them are still shown
    every       text,                              -- the interval as it was written, such as 30d
    interval_s  bigint,
    anchor      timestamptz,
    next_due_at timestamptz,
    version     integer     NOT NULL,              -- the newest version of the secret, and when it was made
    minted_at   timestamptz
);

-- A key that ends before it is due is never due.
CREATE INDEX rotation_by_due ON rotation (next_due_at)
    WHERE next_due_at IS NOT NULL AND NOT blocked AND (expires_at IS NULL OR expires_at > next_due_at);
CREATE INDEX rotation_deleted ON rotation (deleted_at) WHERE deleted_at IS NOT NULL;

-- Teams and organizations: where they belong, and whether their keys are held back.
CREATE TABLE place (
    kind       text    NOT NULL,
    scope_id   text    NOT NULL,
    org_id     text    NOT NULL,
    blocked    boolean NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (kind, scope_id)
);

-- One row per due instant that was decided. The primary key is what makes two schedulers harmless: the instant
-- follows from the key's interval and anchor alone. Rows with neither `published_at` nor `passed_over` are the outbox.
CREATE TABLE rotation_run (
    key_id       text        NOT NULL,
    due_at       timestamptz NOT NULL,
    missed       integer     NOT NULL,             -- due instants before it that nothing came of
    decided_at   timestamptz NOT NULL,
    decided_by   text        NOT NULL,
    published_at timestamptz,
    passed_over  boolean     NOT NULL DEFAULT false, -- a newer instant was due before this one could be told
    version      integer,                          -- what came of it
    minted_at    timestamptz,
    PRIMARY KEY (key_id, due_at)
);
CREATE INDEX rotation_run_outbox ON rotation_run (due_at) WHERE published_at IS NULL AND NOT passed_over;
CREATE INDEX rotation_run_by_age ON rotation_run (due_at);

-- How far auth's log is folded. `complete`: its end was reached at least once, so that nothing is decided on half of it.
CREATE TABLE checkpoint (
    stream         text    PRIMARY KEY,
    stream_created text    NOT NULL,
    seq            bigint  NOT NULL,
    position       bigint  NOT NULL,
    complete       boolean NOT NULL
);
