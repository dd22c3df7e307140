-- One row for every run of a job. The primary key is what makes two schedulers harmless: the instant of a tick
-- follows from the job's interval alone, so both name it alike and only one can claim it.
CREATE TABLE tick (
    job           text        NOT NULL,
    due_at        timestamptz NOT NULL,
    claimed_by    text        NOT NULL,
    claimed_until timestamptz NOT NULL,             -- after it, an unfinished tick may be claimed anew
    attempts      integer     NOT NULL DEFAULT 1,
    started_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    outcome       text,                             -- what the run did, or why the last attempt failed
    PRIMARY KEY (job, due_at)
);

CREATE INDEX tick_by_age ON tick (due_at);

-- Who ticks. This saves work and protects nothing: correctness is the primary key above.
CREATE TABLE lease (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    epoch      bigint      NOT NULL DEFAULT 1,      -- rises with every change of holder
    renewed_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
