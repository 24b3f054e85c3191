-- Every statement the store sends, but for the migrations. Each has a name, by which Python calls it, and
-- a sentence; values are bound by name, never written into the text.

-- name: create_schema_migrations
-- The list of applied migrations is the one table that no migration makes.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: lock_migrations
-- One process migrates at a time; the lock ends with the transaction, as poolers require.
SELECT pg_advisory_xact_lock(hashtext('swiftbolt.migrations'));

-- name: has_schema_migrations
-- Whether this database was migrated before.
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: applied_migrations
-- Names of what was applied.
SELECT name FROM schema_migrations;

-- name: record_migration
-- In the same transaction as the migration itself.
INSERT INTO schema_migrations (name) VALUES (%(name)s);

-- name: create_incoming_bars
-- Where a batch of bars lands before it is merged.
CREATE TEMPORARY TABLE incoming_bars ON COMMIT DROP AS
SELECT symbol, session, open, high, low, close, volume FROM bars WITH NO DATA;

-- name: copy_bars
-- Columns in the order of the frame.
COPY incoming_bars FROM STDIN (FORMAT BINARY);

-- name: merge_bars
-- Insert new bars and rewrite those that differ. Both sides of a concurrent pair go in key order, so they
-- wait for each other and never deadlock; a row just inserted is told by its two equal times.
WITH merged AS (
    INSERT INTO bars AS held (symbol, session, open, high, low, close, volume, source)
    SELECT symbol, session, open, high, low, close, volume, %(source)s
    FROM incoming_bars
    ORDER BY symbol, session
    ON CONFLICT (symbol, session) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, source = excluded.source, updated_at = clock_timestamp()
    WHERE (held.open, held.high, held.low, held.close, held.volume)
        IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume)
    RETURNING created_at = updated_at AS is_new
)
SELECT
    count(*) FILTER (WHERE is_new) AS inserted,
    count(*) FILTER (WHERE NOT is_new) AS revised,
    (SELECT count(*) FROM incoming_bars) - count(*) AS unchanged
FROM merged;

-- name: create_incoming_actions
-- Where a batch of corporate actions lands before it is merged.
CREATE TEMPORARY TABLE incoming_actions ON COMMIT DROP AS
SELECT symbol, ex_date, kind, value, known_at FROM corporate_actions WITH NO DATA;

-- name: copy_actions
-- Columns in the order of the frame.
COPY incoming_actions FROM STDIN (FORMAT BINARY);

-- name: lock_actions
-- One batch at a time, as merging deletes too; readers are not held up.
LOCK TABLE corporate_actions IN SHARE ROW EXCLUSIVE MODE;

-- name: merge_actions
-- A batch replaces what is held for the same symbol, ex-date and kind: a second dividend it no longer
-- names is withdrawn, and counted as revised.
WITH given AS (
    SELECT *, row_number() OVER (PARTITION BY symbol, ex_date, kind ORDER BY value, known_at) AS ordinal
    FROM incoming_actions
), withdrawn AS (
    DELETE FROM corporate_actions AS held
    USING (SELECT symbol, ex_date, kind, max(ordinal) AS last FROM given GROUP BY symbol, ex_date, kind) AS kept
    WHERE (held.symbol, held.ex_date, held.kind) = (kept.symbol, kept.ex_date, kept.kind)
        AND held.ordinal > kept.last
    RETURNING held.symbol
), merged AS (
    INSERT INTO corporate_actions AS held (symbol, ex_date, kind, ordinal, value, known_at, source)
    SELECT symbol, ex_date, kind, ordinal, value, known_at, %(source)s FROM given
    ON CONFLICT (symbol, ex_date, kind, ordinal) DO UPDATE SET
        value = excluded.value, known_at = excluded.known_at, source = excluded.source,
        updated_at = clock_timestamp()
    WHERE (held.value, held.known_at) IS DISTINCT FROM (excluded.value, excluded.known_at)
    RETURNING created_at = updated_at AS is_new
)
SELECT
    count(*) FILTER (WHERE is_new) AS inserted,
    count(*) FILTER (WHERE NOT is_new) + (SELECT count(*) FROM withdrawn) AS revised,
    (SELECT count(*) FROM given) - count(*) AS unchanged
FROM merged;

-- name: bars
-- One row per symbol with an array per column: a tenth of the work of a row per bar.
SELECT
    symbol,
    array_agg(session ORDER BY session) AS session,
    array_agg(open ORDER BY session) AS open,
    array_agg(high ORDER BY session) AS high,
    array_agg(low ORDER BY session) AS low,
    array_agg(close ORDER BY session) AS close,
    array_agg(volume ORDER BY session) AS volume
FROM bars
WHERE (%(symbols)s::varchar[] IS NULL OR symbol = ANY (%(symbols)s::varchar[]))
    AND session >= coalesce(%(start)s::date, '-infinity')
    AND session <= coalesce(%(end)s::date, 'infinity')
GROUP BY symbol
ORDER BY symbol;

-- name: actions
-- Corporate actions of some symbols, or of all.
SELECT symbol, ex_date, kind, value, known_at
FROM corporate_actions
WHERE %(symbols)s::varchar[] IS NULL OR symbol = ANY (%(symbols)s::varchar[]);

-- name: symbols
-- What is held for each symbol.
SELECT
    symbol,
    min(session) AS first,
    max(session) AS last,
    count(*) AS sessions,
    (array_agg(close ORDER BY session DESC))[1] AS last_close
FROM bars
GROUP BY symbol
ORDER BY symbol;

-- name: last_sessions
-- The newest session held for each symbol.
SELECT symbol, max(session) FROM bars GROUP BY symbol;

-- name: insert_run
-- A run begins.
INSERT INTO runs (run, kind, config, started) VALUES (%(run)s, %(kind)s, %(config)s, %(started)s);

-- name: progress_run
-- How far a run has come.
UPDATE runs SET done = %(done)s, failed = %(failed)s, total = %(total)s WHERE run = %(run)s;

-- name: finish_run
-- A run ends, well or not.
UPDATE runs
SET state = %(state)s,
    seconds = %(seconds)s,
    failures = %(failures)s,
    ended = started + make_interval(secs => %(seconds)s)
WHERE run = %(run)s;

-- name: runs
-- Newest first.
SELECT run, kind, state, done, failed, total, seconds, started, failures
FROM runs
ORDER BY started DESC, run DESC;

-- name: insert_release
-- The version counts up; one that failed to be published leaves a gap.
INSERT INTO releases (run, release_digest, origin, directory, reproducible)
VALUES (%(run)s, %(release_digest)s, %(origin)s, %(directory)s, %(reproducible)s)
RETURNING version;

-- name: insert_artifact
-- One model of a run.
INSERT INTO artifacts (run, model, manifest, directory) VALUES (%(run)s, %(model)s, %(manifest)s, %(directory)s);

-- name: insert_score
-- One line of a run's scorecard; metrics comes as JSON text.
INSERT INTO scores (run, model, horizon, metrics) VALUES (%(run)s, %(model)s, %(horizon)s, %(metrics)s::jsonb);

-- name: copy_forecasts
-- Forecasts of a release being published.
COPY forecasts (
    version, symbol, origin, horizon, model, mean, sd,
    "q_0.025", "q_0.05", "q_0.25", "q_0.5", "q_0.75", "q_0.95", "q_0.975", p_up
) FROM STDIN (FORMAT BINARY);

-- name: releases
-- Newest first: one version, the active one, or all.
SELECT
    releases.version,
    releases.run,
    active.version IS NOT NULL AS active,
    releases.release_digest,
    releases.origin,
    releases.created,
    releases.directory,
    releases.reproducible
FROM releases
LEFT JOIN (
    SELECT promotions.version FROM active_release JOIN promotions ON promotions.number = active_release.promotion
) AS active USING (version)
WHERE (%(version)s::bigint IS NULL OR releases.version = %(version)s)
    AND (NOT %(only_active)s OR active.version IS NOT NULL)
ORDER BY releases.version DESC;

-- name: lock_active_release
-- Promotions and rollbacks happen one after the other; readers are not held up.
LOCK TABLE active_release IN SHARE ROW EXCLUSIVE MODE;

-- name: promote
-- Log the promotion, point at it, and tell whoever listens once this commits.
WITH promoted AS (
    INSERT INTO promotions (version, below)
    VALUES (%(version)s, (SELECT promotion FROM active_release))
    RETURNING number, version
), pointed AS (
    INSERT INTO active_release (promotion)
    SELECT number FROM promoted
    ON CONFLICT (singleton) DO UPDATE SET promotion = excluded.promotion
)
SELECT version, pg_notify('swiftbolt_release', version::text) FROM promoted;

-- name: rollback
-- Promote again what lay below the active promotion; no row where nothing did.
WITH target AS (
    SELECT below.version, below.below
    FROM active_release
    JOIN promotions AS current ON current.number = active_release.promotion
    JOIN promotions AS below ON below.number = current.below
), restored AS (
    INSERT INTO promotions (version, below)
    SELECT version, below FROM target
    RETURNING number, version
), pointed AS (
    UPDATE active_release SET promotion = restored.number FROM restored
)
SELECT version, pg_notify('swiftbolt_release', version::text) FROM restored;

-- name: forecasts
-- What a release forecast, for one symbol or all.
SELECT
    symbol, origin, horizon, model, mean, sd,
    "q_0.025", "q_0.05", "q_0.25", "q_0.5", "q_0.75", "q_0.95", "q_0.975", p_up
FROM forecasts
WHERE version = %(version)s AND (%(symbol)s::varchar IS NULL OR symbol = %(symbol)s)
ORDER BY symbol, model, horizon;

-- name: results
-- A release's scorecard.
SELECT model, horizon, metrics::text AS metrics
FROM scores
JOIN releases USING (run)
WHERE version = %(version)s
ORDER BY model, horizon;
