-- Splits and dividends that were corrected or withdrawn, as they were before.
CREATE TABLE IF NOT EXISTS action_revisions (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol       varchar(64) COLLATE "C" NOT NULL,
    ex_date      date NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    value        double precision NOT NULL,
    known_at     date,
    source       varchar(64) NOT NULL,
    is_withdrawn boolean NOT NULL,
    replaced_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS action_revisions_symbol_idx ON action_revisions (symbol, ex_date);

-- A trigger, so that no value is lost whoever replaces it.
CREATE OR REPLACE FUNCTION keep_replaced_actions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (OLD.value, OLD.known_at) IS DISTINCT FROM (NEW.value, NEW.known_at) THEN
        INSERT INTO action_revisions (symbol, ex_date, kind, value, known_at, source, is_withdrawn)
        VALUES (OLD.symbol, OLD.ex_date, OLD.kind, OLD.value, OLD.known_at, OLD.source, TG_OP = 'DELETE');
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER actions_keep_what_is_replaced
    AFTER UPDATE OR DELETE ON corporate_actions
    FOR EACH ROW EXECUTE FUNCTION keep_replaced_actions();

-- As in the migrations before: Supabase grants every new table to its web roles.
DO $$
DECLARE
    web_role text;
BEGIN
    FOR web_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON action_revisions FROM %I', web_role);
    END LOOP;
END
$$;
