-- What makes stored bars trustworthy: the values that were replaced, what is wrong with them, what a source was
-- asked for, and a number that says when they changed; and the features computed from them.

-- A line per symbol. "revision" counts the changes of what is held of it up to "newest", its newest session, as
-- later sessions change no earlier feature. Whoever writes to a symbol locks its line first, in order of the symbols.
CREATE TABLE IF NOT EXISTS symbol_revisions (
    symbol    varchar(64) COLLATE "C" PRIMARY KEY,
    revision  bigint NOT NULL DEFAULT 0,
    newest    date
);

INSERT INTO symbol_revisions (symbol, revision, newest)
SELECT symbol, 1, max(session) FROM bars GROUP BY symbol
ON CONFLICT DO NOTHING;

-- The values a bar had before it was replaced; ordinal counts the replacements of one bar.
CREATE TABLE IF NOT EXISTS bar_revisions (
    symbol       varchar(64) COLLATE "C" NOT NULL,
    session      date NOT NULL,
    ordinal      integer NOT NULL,
    open         double precision NOT NULL,
    high         double precision NOT NULL,
    low          double precision NOT NULL,
    close        double precision NOT NULL,
    volume       double precision NOT NULL,
    source       varchar(64) NOT NULL,
    replaced_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, session, ordinal)
);

-- A trigger, so that no value is lost whoever replaces it.
CREATE OR REPLACE FUNCTION keep_replaced_bars() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bar_revisions (symbol, session, ordinal, open, high, low, close, volume, source)
    SELECT
        was.symbol,
        was.session,
        1 + (
            SELECT count(*) FROM bar_revisions AS earlier
            WHERE (earlier.symbol, earlier.session) = (was.symbol, was.session)
        ),
        was.open, was.high, was.low, was.close, was.volume, was.source
    FROM was
    LEFT JOIN became USING (symbol, session)
    WHERE (was.open, was.high, was.low, was.close, was.volume)
        IS DISTINCT FROM (became.open, became.high, became.low, became.close, became.volume);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER bars_keep_what_is_replaced
    AFTER UPDATE ON bars REFERENCING OLD TABLE AS was NEW TABLE AS became
    FOR EACH STATEMENT EXECUTE FUNCTION keep_replaced_bars();

CREATE TABLE IF NOT EXISTS findings (
    symbol      varchar(64) COLLATE "C",
    session     date,
    kind        text COLLATE "C" NOT NULL,
    known_from  date,
    detail      text NOT NULL,
    source      varchar(64),
    created     timestamptz NOT NULL DEFAULT now()
);

-- A digest of the sentence, as an index entry is bounded and a sentence is not.
CREATE UNIQUE INDEX IF NOT EXISTS findings_once
    ON findings (symbol, session, kind, known_from, md5(detail)) NULLS NOT DISTINCT;

-- Rows that were never bars, with their values as they came.
CREATE TABLE IF NOT EXISTS quarantined_rows (
    number   bigint GENERATED ALWAYS AS IDENTITY,
    symbol   varchar(64) COLLATE "C",
    session  date,
    open     double precision,
    high     double precision,
    low      double precision,
    close    double precision,
    volume   double precision,
    fault    text COLLATE "C" NOT NULL,
    source   varchar(64) NOT NULL,
    created  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (symbol, session, open, high, low, close, volume, fault, source)
);

-- Ranges a source has answered for completely; those of one symbol and source neither touch nor overlap.
CREATE TABLE IF NOT EXISTS coverage (
    symbol  varchar(64) COLLATE "C" NOT NULL,
    source  varchar(64) NOT NULL,
    first   date NOT NULL,
    last    date NOT NULL CHECK (last >= first),
    PRIMARY KEY (symbol, source, first)
);

-- Features of one spec over one universe, from the bars of one revision; newest is the last session cached.
CREATE TABLE IF NOT EXISTS feature_sets (
    feature_set    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    spec_hash      text NOT NULL,
    universe_hash  text NOT NULL,
    revision       text NOT NULL,
    columns        text[] NOT NULL,
    newest         date,
    UNIQUE (spec_hash, universe_hash)
);

-- Unlogged and without a foreign key: what a crash empties is computed again.
CREATE UNLOGGED TABLE IF NOT EXISTS feature_rows (
    feature_set   bigint NOT NULL,
    symbol        varchar(64) COLLATE "C" NOT NULL,
    session       date NOT NULL,
    price_growth  double precision NOT NULL,
    share_growth  double precision NOT NULL,
    features      double precision[] NOT NULL,
    PRIMARY KEY (feature_set, symbol, session)
);

-- As in the migration before: Supabase grants every new table to its web roles.
DO $$
DECLARE
    web_role text;
BEGIN
    FOR web_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format(
            'REVOKE ALL ON symbol_revisions, bar_revisions, findings, quarantined_rows, coverage, feature_sets,'
            ' feature_rows FROM %I',
            web_role
        );
    END LOOP;
END
$$;
