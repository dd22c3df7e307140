-- Budget objects (streams 'budget:<id>'), and what names them. An object that something names cannot go: the
-- references hold whatever two requests do at once. A scope's row says which version of its object it follows.

CREATE TABLE budget_view (
    budget_id  text        PRIMARY KEY,
    version    integer     NOT NULL,
    created_at timestamptz NOT NULL,
    body       jsonb       NOT NULL
);

ALTER TABLE key_view
    ADD COLUMN budget_id      text CONSTRAINT key_has_budget REFERENCES budget_view, -- null once deleted
    ADD COLUMN budget_version integer;
ALTER TABLE team_view
    ADD COLUMN budget_id             text CONSTRAINT team_has_budget REFERENCES budget_view,
    ADD COLUMN budget_version        integer,
    ADD COLUMN default_key_budget_id text CONSTRAINT team_gives_budget REFERENCES budget_view;
ALTER TABLE org_view
    ADD COLUMN budget_id      text CONSTRAINT org_has_budget REFERENCES budget_view,
    ADD COLUMN budget_version integer;

CREATE INDEX key_of_budget ON key_view (budget_id, budget_version) WHERE budget_id IS NOT NULL;
CREATE INDEX team_of_budget ON team_view (budget_id, budget_version) WHERE budget_id IS NOT NULL;
CREATE INDEX team_giving_budget ON team_view (default_key_budget_id) WHERE default_key_budget_id IS NOT NULL;
CREATE INDEX org_of_budget ON org_view (budget_id, budget_version) WHERE budget_id IS NOT NULL;
