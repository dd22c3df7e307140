-- Which version of its secret a key was called with (0: not known), and when each was last used.
ALTER TABLE usage_event ADD COLUMN secret_version integer NOT NULL DEFAULT 0;
CREATE INDEX usage_event_by_org ON usage_event (org_id, event_id);

CREATE TABLE secret_use (
    key_id  text        NOT NULL,
    version integer     NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (key_id, version)
);
