-- The audit log is the event table. Beside each event stands a hash over the one before it and over the row, so that a
-- row that is changed, removed or put in between is found; and where it belongs, so that the log can be shown to those
-- who may see a part of it. Both are written in the transaction of the append, and are in the hash.

CREATE TABLE chain (
    position bigint PRIMARY KEY,                                -- of the event
    org_id   text,                                              -- null: of nobody's in particular
    team_id  text,
    hash     bytea NOT NULL CHECK (length(hash) = 32)
);

CREATE INDEX chain_of_org ON chain (org_id, position DESC);
CREATE INDEX chain_of_team ON chain (team_id, position DESC) WHERE team_id IS NOT NULL;
CREATE INDEX event_by_actor ON event (actor, position DESC);
CREATE INDEX event_by_time ON event (at);

-- The events that are there already. A text goes into the hash with its length in bytes before it, an absent one as '-'.
CREATE FUNCTION chained(texts text[]) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(string_agg(
        convert_to(CASE WHEN t IS NULL THEN '-' ELSE octet_length(convert_to(t, 'UTF8')) || ':' || t END, 'UTF8'),
        ''::bytea ORDER BY n), ''::bytea)
    FROM unnest(texts) WITH ORDINALITY AS part(t, n)
$$;

DO $$
DECLARE
    row  record;
    last bytea := '\x0000000000000000000000000000000000000000000000000000000000000000';
BEGIN
    FOR row IN
        SELECT e.*,
            CASE split_part(e.stream_id, ':', 1)
                WHEN 'key' THEN k.org_id WHEN 'team' THEN t.org_id WHEN 'org' THEN substr(e.stream_id, 5) END AS org_id,
            CASE split_part(e.stream_id, ':', 1)
                WHEN 'key' THEN k.team_id WHEN 'team' THEN t.team_id END AS team_id
        FROM event e
        LEFT JOIN key_view k ON e.stream_id = 'key:' || k.key_id
        LEFT JOIN team_view t ON e.stream_id = 'team:' || t.team_id
        ORDER BY e.position
    LOOP
        last := sha256(last || chained(ARRAY[
            row.position::text, row.stream_id, row.version::text, row.event_id::text, row.type, row.body::text,
            row.actor, row.cause, to_char(row.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            row.org_id, row.team_id]));
        INSERT INTO chain (position, org_id, team_id, hash) VALUES (row.position, row.org_id, row.team_id, last);
    END LOOP;
END
$$;

DROP FUNCTION chained(text[]);

CREATE TRIGGER chain_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
