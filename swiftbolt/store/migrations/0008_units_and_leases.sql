-- What became of every fit of a run, and which driver holds what only one may do at a time.

-- A run whose driver died is known again by what it was to make, and goes on under its name.
ALTER TABLE runs ADD COLUMN IF NOT EXISTS identity text COLLATE "C";
-- What it took and what came of it, once it is done.
ALTER TABLE runs ADD COLUMN IF NOT EXISTS receipt jsonb CHECK (jsonb_typeof(receipt) = 'object');
CREATE INDEX IF NOT EXISTS runs_by_identity ON runs (identity, started) WHERE identity IS NOT NULL;

-- Exactly one row for a fit, however often it was begun. A fit of all symbols together has the symbol "universe".
CREATE TABLE IF NOT EXISTS run_units (
    run          text NOT NULL REFERENCES runs,
    symbol       varchar(64) COLLATE "C" NOT NULL,
    model        text COLLATE "C" NOT NULL,
    fold         integer NOT NULL,
    is_live      boolean NOT NULL,
    state        text NOT NULL CHECK (state IN ('waiting', 'done', 'failed')),
    attempts     integer NOT NULL CHECK (attempts >= 0),
    seconds      double precision,
    cpu_seconds  double precision,
    peak_mb      double precision,
    reason       text,
    PRIMARY KEY (run, symbol, model, fold),
    CHECK ((state = 'failed') = (reason IS NOT NULL))
);

-- Not a lock of the server's: those belong to a session, and a transaction pooler gives every transaction another one.
-- The holder renews it; one that has been silent for long is taken to be dead.
CREATE TABLE IF NOT EXISTS leases (
    name     text PRIMARY KEY,
    run      text,
    holder   text NOT NULL,
    taken    timestamptz NOT NULL,
    renewed  timestamptz NOT NULL
);

-- As in the migrations before: Supabase grants every new table to its web roles.
DO $$
DECLARE
    web_role text;
BEGIN
    FOR web_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON run_units, leases FROM %I', web_role);
    END LOOP;
END
$$;
