-- What lists of keys are narrowed and ordered by, beside what was there from the beginning. All of it stands in `body`
-- too, from which the rows that exist are filled.

ALTER TABLE key_view
    ADD COLUMN user_id    text,
    ADD COLUMN role       text,
    ADD COLUMN reach      text,
    ADD COLUMN blocked    boolean NOT NULL DEFAULT false,
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN updated_at timestamptz;

UPDATE key_view
   SET blocked    = coalesce((body ->> 'blocked')::boolean, false),
       expires_at = (body ->> 'expires_at')::timestamptz,
       updated_at = (body ->> 'updated_at')::timestamptz;

ALTER TABLE key_view ALTER COLUMN updated_at SET NOT NULL;

CREATE INDEX key_of_owner ON key_view (user_id, created_at DESC, key_id DESC) WHERE deleted_at IS NULL;
