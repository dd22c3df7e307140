-- The system of record of auth: an append-only event table, which is also the outbox, and the tables that
-- answers are read from. They are written in the transaction of the append and can be made anew from it.

CREATE TABLE event (
    position  bigint      NOT NULL UNIQUE CHECK (position > 0), -- commit order without holes
    stream_id text        NOT NULL,                             -- 'key:<id>', 'team:<id>', 'org:<id>'
    version   integer     NOT NULL CHECK (version > 0),
    event_id  uuid        NOT NULL UNIQUE,                      -- becomes the message id on the bus
    type      text        NOT NULL,
    body      jsonb       NOT NULL,
    actor     text        NOT NULL,
    cause     text        NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (stream_id, version)                            -- optimistic concurrency
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed or removed' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER event_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE org_view (
    org_id     text        PRIMARY KEY,
    created_at timestamptz NOT NULL,
    body       jsonb       NOT NULL
);

CREATE TABLE team_view (
    team_id    text        PRIMARY KEY,
    org_id     text        NOT NULL REFERENCES org_view,
    alias      text,
    created_at timestamptz NOT NULL,
    body       jsonb       NOT NULL
);

CREATE UNIQUE INDEX team_alias_in_org ON team_view (org_id, alias);

CREATE TABLE key_view (
    key_id     text        PRIMARY KEY,
    org_id     text        NOT NULL REFERENCES org_view,
    team_id    text        REFERENCES team_view,
    alias      text,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    body       jsonb       NOT NULL
);

CREATE UNIQUE INDEX key_alias_of_living ON key_view (alias) WHERE deleted_at IS NULL;
CREATE INDEX key_of_team ON key_view (team_id, created_at DESC, key_id DESC) WHERE deleted_at IS NULL;
CREATE INDEX key_of_org ON key_view (org_id, created_at DESC, key_id DESC) WHERE deleted_at IS NULL;
CREATE INDEX key_by_age ON key_view (created_at DESC, key_id DESC) WHERE deleted_at IS NULL;

CREATE TABLE secret_view (
    label   text    NOT NULL,
    digest  text    NOT NULL,
    key_id  text    NOT NULL REFERENCES key_view,
    version integer NOT NULL,
    PRIMARY KEY (label, digest)                                 -- a secret is unique for ever
);

CREATE INDEX secret_by_digest ON secret_view (digest);
CREATE INDEX secret_of_key ON secret_view (key_id);
