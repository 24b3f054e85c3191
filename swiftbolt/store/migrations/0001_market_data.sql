-- What the market did: daily bars as traded, and the splits and dividends that adjust them.
-- Plain PostgreSQL (15 or newer), no extension. Safe to apply to a database that has these tables already.

-- Names are bounded so that the 80 partitions need no TOAST tables, and compared byte by byte so that
-- every database sorts symbols alike, whatever its locale.
CREATE TABLE IF NOT EXISTS bars (
    symbol      varchar(64) COLLATE "C" NOT NULL,
    session     date NOT NULL,
    open        double precision NOT NULL,
    high        double precision NOT NULL,
    low         double precision NOT NULL,
    close       double precision NOT NULL,
    volume      double precision NOT NULL,
    source      varchar(64) NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, session)
) PARTITION BY RANGE (session);

-- One partition a year, over the years the exchange calendar covers: no bar can lie outside them.
DO $$
BEGIN
    FOR year IN 1960..2039 LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS bars_%s PARTITION OF bars FOR VALUES FROM (%L) TO (%L)',
            year, make_date(year, 1, 1), make_date(year + 1, 1, 1)
        );
    END LOOP;
END
$$;

CREATE INDEX IF NOT EXISTS bars_session_idx ON bars USING brin (session);

-- A day may bring two dividends of one symbol; ordinal tells them apart, in order of their value.
CREATE TABLE IF NOT EXISTS corporate_actions (
    symbol      varchar(64) COLLATE "C" NOT NULL,
    ex_date     date NOT NULL,
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('split', 'dividend', 'factor')),
    ordinal     integer NOT NULL,
    value       double precision NOT NULL CHECK (value > 0),
    known_at    date,
    source      varchar(64) NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, ex_date, kind, ordinal)
);
