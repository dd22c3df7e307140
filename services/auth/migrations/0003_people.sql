-- Users (streams 'user:<id>'), who belongs to which team, and when scopes were deleted.

CREATE TABLE user_view (
    user_id    text        PRIMARY KEY,
    email      text,
    role       text        NOT NULL,
    orgs       text[]      NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    body       jsonb       NOT NULL
);

CREATE UNIQUE INDEX user_email_of_living ON user_view (lower(email)) WHERE deleted_at IS NULL;
CREATE INDEX user_by_age ON user_view (created_at DESC, user_id DESC) WHERE deleted_at IS NULL;
CREATE INDEX user_of_org ON user_view USING gin (orgs) WHERE deleted_at IS NULL;

ALTER TABLE org_view
    ADD COLUMN alias      text,
    ADD COLUMN deleted_at timestamptz;
ALTER TABLE team_view
    ADD COLUMN deleted_at timestamptz;
UPDATE org_view o SET alias = body ->> 'alias' -- of organizations with the same one, the oldest has it
 WHERE NOT EXISTS (SELECT 1 FROM org_view p WHERE p.body ->> 'alias' = o.body ->> 'alias'
                   AND (p.created_at, p.org_id) < (o.created_at, o.org_id));
CREATE UNIQUE INDEX org_alias_of_living ON org_view (alias) WHERE deleted_at IS NULL;

DROP INDEX team_alias_in_org;
CREATE UNIQUE INDEX team_alias_in_org ON team_view (org_id, alias) WHERE deleted_at IS NULL;
CREATE INDEX team_by_age ON team_view (created_at DESC, team_id DESC) WHERE deleted_at IS NULL;
CREATE INDEX team_of_org ON team_view (org_id) WHERE deleted_at IS NULL;
CREATE INDEX team_deleted ON team_view (team_id) WHERE deleted_at IS NOT NULL;
CREATE INDEX org_deleted ON org_view (org_id) WHERE deleted_at IS NOT NULL;

CREATE TABLE member_view (
    team_id text NOT NULL REFERENCES team_view,
    user_id text NOT NULL CONSTRAINT member_is_user REFERENCES user_view,
    role    text NOT NULL,
    address_known boolean NOT NULL DEFAULT false, -- to whoever added them
    PRIMARY KEY (team_id, user_id)
);

CREATE INDEX member_of_user ON member_view (user_id);
