-- Requests that came with an Idempotency-Key: who does them, and what was answered. Rows live for minutes.

CREATE TABLE once (
    scope       text        NOT NULL, -- the actor, as the audit log names them
    name        bytea       NOT NULL, -- SHA-256 over the key that was sent, and over the credential of those without a role
    fingerprint bytea       NOT NULL, -- SHA-256 over method, path, query and body
    seed        bytea       NOT NULL, -- sealed: all ids and secrets of the request are drawn from it
    began_ms    bigint      NOT NULL, -- of the first attempt
    owner       uuid        NOT NULL, -- the attempt that has the claim
    attempts    integer     NOT NULL DEFAULT 1,
    lease_until timestamptz NOT NULL, -- from then on another attempt may take the claim over
    expires_at  timestamptz NOT NULL,
    answer      bytea,                -- sealed; NULL: not answered yet
    PRIMARY KEY (scope, name)
);

CREATE INDEX once_expires ON once (expires_at);
