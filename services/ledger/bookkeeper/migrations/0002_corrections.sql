-- Overdraft beside spend, and corrections: ordered by operators, sent through the log, folded like everything else.

-- Cost beyond what was held, summed over calls for which money was held.
ALTER TABLE spend ADD COLUMN overdraft_nusd bigint NOT NULL DEFAULT 0;
ALTER TABLE account_spend ADD COLUMN overdraft_nusd bigint NOT NULL DEFAULT 0;

CREATE TEMPORARY TABLE over ON COMMIT DROP AS
    SELECT key_id, team_id, org_id, windows, cost_nusd - held_nusd AS overdraft
    FROM usage_event WHERE serial IS NOT NULL AND cost_nusd > held_nusd;

UPDATE spend SET overdraft_nusd = summed.overdraft
FROM (
    SELECT kind, id, sum(overdraft)::bigint AS overdraft
    FROM (
        SELECT 'key' AS kind, key_id AS id, overdraft FROM over
        UNION ALL SELECT 'org', org_id, overdraft FROM over
        UNION ALL SELECT 'team', team_id, overdraft FROM over WHERE team_id IS NOT NULL
    ) AS single GROUP BY kind, id
) AS summed
WHERE spend.scope_kind = summed.kind AND spend.scope_id = summed.id;

UPDATE account_spend SET overdraft_nusd = summed.overdraft
FROM (
    SELECT aw ->> 0 AS account, (aw ->> 1)::integer AS window_index, sum(overdraft)::bigint AS overdraft
    FROM over, jsonb_array_elements(windows) AS aw GROUP BY 1, 2
) AS summed
WHERE account_spend.account = summed.account AND account_spend.window_index = summed.window_index;

-- One row per correction that the log holds: the audit trail. `changes` is [[[account, index], delta, before], ...].
CREATE TABLE correction (
    event_id   uuid PRIMARY KEY,
    stream_seq bigint NOT NULL,
    instance   text NOT NULL,
    partition  integer NOT NULL,
    n          bigint NOT NULL,
    at         timestamptz NOT NULL,
    scope_kind text NOT NULL,
    scope_id   text NOT NULL,
    actor      text NOT NULL,
    reason     text NOT NULL,
    changes    jsonb NOT NULL,
    UNIQUE (instance, partition, n)
);
CREATE INDEX correction_by_scope ON correction (scope_kind, scope_id, event_id);
CREATE INDEX correction_by_seq ON correction (stream_seq);

-- Under which name, and up to which number, this database gives corrections to the log of a partition.
CREATE TABLE corrector (
    partition integer PRIMARY KEY,
    instance  text NOT NULL,
    last_n    bigint NOT NULL
);

-- Corrections that are ordered and not folded yet. `sent_seq` is their place in the log once it is known.
CREATE TABLE correction_outbox (
    event_id   uuid PRIMARY KEY,
    instance   text NOT NULL,
    partition  integer NOT NULL,
    n          bigint NOT NULL,
    at         timestamptz NOT NULL,
    scope_kind text NOT NULL,
    scope_id   text NOT NULL,
    actor      text NOT NULL,
    reason     text NOT NULL,
    changes    jsonb NOT NULL,
    body       bytea NOT NULL,
    sent_seq   bigint,
    UNIQUE (instance, partition, n)
);
