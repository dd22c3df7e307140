-- What a key's row was folded from: the version of its stream, and the shape of the state. A row that says both as they
-- are now spares reading the whole stream. Rows from before say neither, and say it after their next change.

ALTER TABLE key_view
    ADD COLUMN version integer,
    ADD COLUMN shape   text;

CREATE INDEX key_outside_teams ON key_view (org_id) WHERE deleted_at IS NULL AND team_id IS NULL;
