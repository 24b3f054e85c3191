-- The ledger of trials: every configuration that was ever looked at, so that the best of them is judged as the best of
-- so many. A configuration has one row; a second one where it was pruned or failed first and completed later.
CREATE TABLE IF NOT EXISTS trials (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key           text COLLATE "C" NOT NULL CHECK (key ~ '^[0-9a-f]{64}$'),
    state         text COLLATE "C" NOT NULL CHECK (state IN ('complete', 'pruned', 'failed')),
    source        text COLLATE "C" NOT NULL CHECK (source IN ('evaluate', 'sweep', 'retrain', 'note')),
    model         text COLLATE "C",
    horizon       integer CHECK (horizon > 0),
    config        jsonb NOT NULL CHECK (jsonb_typeof(config) = 'object'),
    symbols       text[] COLLATE "C" NOT NULL,
    first_origin  date NOT NULL,
    last_origin   date NOT NULL CHECK (last_origin >= first_origin),
    sessions      date[],
    net           double precision[],
    reason        text,
    sharpe        double precision,
    crps          double precision,
    skill         double precision,
    code_version  text NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (key, state),
    -- A note may say less: without symbols it counts with everything of its period.
    CHECK (source = 'note' OR (model IS NOT NULL AND horizon IS NOT NULL AND cardinality(symbols) > 0)),
    CHECK ((net IS NULL) = (sessions IS NULL) AND (net IS NULL) = (reason IS NOT NULL)),
    CHECK (cardinality(net) = cardinality(sessions) AND cardinality(net) > 0)
);

CREATE OR REPLACE FUNCTION refuse_to_forget_trials() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger of trials is append-only: what was looked at stays looked at';
END
$$;

CREATE OR REPLACE TRIGGER trials_are_append_only
    BEFORE UPDATE OR DELETE ON trials FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_forget_trials();

-- As in the migrations before: Supabase grants every new table to its web roles.
DO $$
DECLARE
    web_role text;
BEGIN
    FOR web_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON trials FROM %I', web_role);
    END LOOP;
END
$$;
