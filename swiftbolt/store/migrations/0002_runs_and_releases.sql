-- What was computed: runs, what each left behind, and which release is served.

CREATE TABLE IF NOT EXISTS runs (
    run       text PRIMARY KEY,
    kind      text NOT NULL,
    state     text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'failed')),
    config    jsonb NOT NULL,
    done      integer NOT NULL DEFAULT 0,
    failed    integer NOT NULL DEFAULT 0,
    total     integer NOT NULL DEFAULT 0,
    seconds   double precision,
    failures  jsonb NOT NULL DEFAULT '{}',
    started   timestamptz NOT NULL,
    ended     timestamptz
);

CREATE TABLE IF NOT EXISTS artifacts (
    run        text NOT NULL REFERENCES runs,
    model      text NOT NULL,
    manifest   jsonb NOT NULL,
    directory  text NOT NULL,
    PRIMARY KEY (run, model)
);

-- One row per model and horizon; metrics holds the scorecard's numbers under the scorecard's names.
CREATE TABLE IF NOT EXISTS scores (
    run      text NOT NULL REFERENCES runs,
    model    text NOT NULL,
    horizon  integer NOT NULL,
    metrics  jsonb NOT NULL,
    PRIMARY KEY (run, model, horizon)
);

CREATE TABLE IF NOT EXISTS releases (
    version         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run             text NOT NULL UNIQUE REFERENCES runs,
    release_digest  text NOT NULL,
    origin          date NOT NULL,
    directory       text NOT NULL,
    reproducible    boolean NOT NULL,
    created         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS forecasts (
    version   bigint NOT NULL REFERENCES releases,
    symbol    varchar(64) COLLATE "C" NOT NULL,
    origin    date NOT NULL,
    horizon   integer NOT NULL,
    model     text COLLATE "C" NOT NULL,
    mean      double precision NOT NULL,
    sd        double precision NOT NULL,
    "q_0.025" double precision NOT NULL,
    "q_0.05"  double precision NOT NULL,
    "q_0.25"  double precision NOT NULL,
    "q_0.5"   double precision NOT NULL,
    "q_0.75"  double precision NOT NULL,
    "q_0.95"  double precision NOT NULL,
    "q_0.975" double precision NOT NULL,
    p_up      double precision NOT NULL,
    realized  double precision,
    PRIMARY KEY (version, symbol, horizon, model)
);

-- What was forecast stays as it was forecast; only the realised outcome is written beside it later.
CREATE OR REPLACE FUNCTION refuse_to_rewrite_forecasts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'forecasts are append-only';
END
$$;

CREATE OR REPLACE TRIGGER forecasts_are_append_only
    BEFORE DELETE OR UPDATE OF version, symbol, origin, horizon, model, mean, sd,
        "q_0.025", "q_0.05", "q_0.25", "q_0.5", "q_0.75", "q_0.95", "q_0.975", p_up
    ON forecasts FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_forecasts();

-- Every change of the served release, in order. "below" is the promotion a rollback returns to, so that
-- rollbacks go back step by step and never to a release that was itself rolled back.
CREATE TABLE IF NOT EXISTS promotions (
    number    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version   bigint NOT NULL REFERENCES releases,
    below     bigint REFERENCES promotions,
    promoted  timestamptz NOT NULL DEFAULT now()
);

-- The one row that says what is served.
CREATE TABLE IF NOT EXISTS active_release (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    promotion  bigint NOT NULL REFERENCES promotions
);
