-- The books: what was spent, as the log of the ledger tells it. Nothing here is the source of truth; everything
-- can be dropped and folded again.

-- One row per usage event. Facts stay as they were recorded; a correction is another event.
CREATE TABLE usage_event (
    event_id           uuid PRIMARY KEY,
    stream_seq         bigint NOT NULL,
    instance           text NOT NULL,
    partition          integer NOT NULL,
    n                  bigint NOT NULL,
    at                 timestamptz NOT NULL,
    call_id            text NOT NULL,
    attempt            integer NOT NULL,
    key_id             text NOT NULL,
    team_id            text,
    org_id             text NOT NULL,
    endpoint           text NOT NULL,
    model              text NOT NULL,
    deployment         text NOT NULL,
    served_model       text,
    region             text,
    serial             bigint,
    windows            jsonb NOT NULL,
    input_tokens       bigint NOT NULL,
    cached_tokens      bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    reasoning_tokens   bigint NOT NULL,
    raw_usage          jsonb,
    cost_nusd          bigint NOT NULL,
    held_nusd          bigint NOT NULL,
    repriced_nusd      bigint,
    price_id           text,
    measured           text NOT NULL,
    outcome            text NOT NULL,
    status             integer NOT NULL,
    started_at         timestamptz NOT NULL,
    duration_ms        bigint NOT NULL,
    first_byte_ms      bigint,
    overhead_us        bigint,
    retries            integer NOT NULL,
    tags               jsonb NOT NULL,
    UNIQUE (instance, partition, n)
);
COMMENT ON COLUMN usage_event.repriced_nusd IS
    'What the price row gives, where it differs from the cost that was charged; balances use cost_nusd.';

CREATE INDEX usage_event_by_key ON usage_event (key_id, event_id);
CREATE INDEX usage_event_by_team ON usage_event (team_id, event_id);
CREATE INDEX usage_event_by_call ON usage_event (call_id);
CREATE INDEX usage_event_by_seq ON usage_event (stream_seq);
CREATE INDEX usage_event_mispriced ON usage_event (event_id) WHERE repriced_nusd IS NOT NULL;

-- Totals per scope since the beginning.
CREATE TABLE spend (
    scope_kind    text NOT NULL,
    scope_id      text NOT NULL,
    total_nusd    bigint NOT NULL,
    calls         bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    last_at       timestamptz NOT NULL,
    PRIMARY KEY (scope_kind, scope_id)
);
CREATE INDEX spend_by_amount ON spend (scope_kind, total_nusd DESC, scope_id);

-- Spend per budget and window; a new window is a new row, nothing is ever reset.
CREATE TABLE account_spend (
    account      text NOT NULL,
    window_index integer NOT NULL,
    spent_nusd   bigint NOT NULL,
    PRIMARY KEY (account, window_index)
);

-- How far the log is folded: nothing at or below `seq` is missing.
CREATE TABLE checkpoint (
    stream         text PRIMARY KEY,
    stream_created text NOT NULL,
    seq            bigint NOT NULL
);

-- Messages, or pieces of them, that could not be read: kept whole, so that no money is lost with them.
CREATE TABLE dead_letter (
    stream         text NOT NULL,
    stream_created text NOT NULL,
    seq            bigint NOT NULL,
    piece          integer NOT NULL,
    subject        text NOT NULL,
    data           bytea NOT NULL,
    reason         text NOT NULL,
    found_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, stream_created, seq, piece)
);
