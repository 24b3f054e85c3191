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

-- name: lock_symbols
-- Whoever writes to a symbol goes first through its line here, in order of the symbols: two ingests wait for each
-- other and never deadlock, and what is read afterwards stays as it is until this transaction ends.
INSERT INTO symbol_revisions AS held (symbol)
SELECT symbol FROM unnest(%(symbols)s::varchar[]) AS given (symbol) ORDER BY symbol COLLATE "C"
ON CONFLICT (symbol) DO UPDATE SET revision = held.revision;

-- name: create_incoming_bars
-- Where a batch of bars lands before it is merged.
CREATE TEMPORARY TABLE incoming_bars ON COMMIT DROP AS
SELECT symbol, session, open, high, low, close, volume FROM bars WITH NO DATA;

-- name: copy_bars
-- Columns in the order of the frame.
COPY incoming_bars FROM STDIN (FORMAT BINARY);

-- name: merge_bars
-- Insert new bars and rewrite those that differ; a row just inserted is told by its two equal times. A symbol's
-- revision counts up unless all its new bars follow the newest one held.
WITH merged AS (
    INSERT INTO bars AS held (symbol, session, open, high, low, close, volume, source)
    SELECT symbol, session, open, high, low, close, volume, %(source)s FROM incoming_bars
    ON CONFLICT (symbol, session) DO UPDATE SET
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume, source = excluded.source, updated_at = clock_timestamp()
    WHERE (held.open, held.high, held.low, held.close, held.volume)
        IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume)
    RETURNING symbol, session, created_at = updated_at AS is_new
), changed AS (
    SELECT
        symbol,
        count(*) FILTER (WHERE is_new) AS inserted,
        count(*) FILTER (WHERE NOT is_new) AS revised,
        min(session) AS oldest,
        max(session) AS latest,
        coalesce(min(session) > min(held.newest), false) AS is_appended
    FROM merged
    JOIN symbol_revisions AS held USING (symbol)
    GROUP BY symbol
), noted AS (
    UPDATE symbol_revisions AS held
    SET newest = greatest(held.newest, latest), revision = revision + (NOT is_appended)::int
    FROM changed
    WHERE changed.symbol = held.symbol
)
SELECT
    coalesce(sum(inserted), 0)::bigint AS inserted,
    coalesce(sum(revised), 0)::bigint AS revised,
    ((SELECT count(*) FROM incoming_bars) - coalesce(sum(inserted + revised), 0))::bigint AS unchanged,
    min(oldest) FILTER (WHERE is_appended) AS appended_from
FROM changed;

-- name: replaced_bars
-- What this transaction replaced: it began now(), and holds the locks of these symbols.
SELECT symbol, session, ordinal, open, high, low, close, volume, source, replaced_at
FROM bar_revisions
WHERE symbol = ANY (%(symbols)s::varchar[]) AND replaced_at = now();

-- name: revisions
-- Values that were replaced, of some symbols or of all, in the order they were.
SELECT symbol, session, ordinal, open, high, low, close, volume, source, replaced_at
FROM bar_revisions
WHERE %(symbols)s::varchar[] IS NULL OR symbol = ANY (%(symbols)s::varchar[])
ORDER BY symbol, session, ordinal;

-- name: symbol_revisions
-- How often what is held of some symbols has changed.
SELECT symbol, revision FROM symbol_revisions WHERE symbol = ANY (%(symbols)s::varchar[]) ORDER BY symbol;

-- name: create_incoming_actions
-- Where a batch of corporate actions lands before it is merged.
CREATE TEMPORARY TABLE incoming_actions ON COMMIT DROP AS
SELECT symbol, ex_date, kind, value, known_at FROM corporate_actions WITH NO DATA;

-- name: copy_actions
-- Columns in the order of the frame.
COPY incoming_actions FROM STDIN (FORMAT BINARY);

-- name: merge_actions
-- A batch replaces what is held for the same symbol, ex-date and kind: a second dividend it no longer
-- names is withdrawn, and counted as revised. An action matters from its announcement or its ex-date on: one
-- that starts to matter after a symbol's newest bar does not change its revision.
WITH given AS (
    SELECT *, row_number() OVER (PARTITION BY symbol, ex_date, kind ORDER BY value, known_at) AS ordinal
    FROM incoming_actions
), withdrawn AS (
    DELETE FROM corporate_actions AS held
    USING (SELECT symbol, ex_date, kind, max(ordinal) AS last FROM given GROUP BY symbol, ex_date, kind) AS kept
    WHERE (held.symbol, held.ex_date, held.kind) = (kept.symbol, kept.ex_date, kept.kind)
        AND held.ordinal > kept.last
    RETURNING held.symbol, least(held.ex_date, held.known_at) AS matters_from
), merged AS (
    INSERT INTO corporate_actions AS held (symbol, ex_date, kind, ordinal, value, known_at, source)
    SELECT symbol, ex_date, kind, ordinal, value, known_at, %(source)s FROM given
    ON CONFLICT (symbol, ex_date, kind, ordinal) DO UPDATE SET
        value = excluded.value, known_at = excluded.known_at, source = excluded.source,
        updated_at = clock_timestamp()
    WHERE (held.value, held.known_at) IS DISTINCT FROM (excluded.value, excluded.known_at)
    RETURNING symbol, ex_date, kind, ordinal, known_at, created_at = updated_at AS is_new
), changed AS (
    SELECT symbol, matters_from FROM withdrawn
    UNION ALL
    -- Within one statement the table itself still shows what was there before.
    SELECT symbol, least(ex_date, merged.known_at, before.known_at)
    FROM merged
    LEFT JOIN corporate_actions AS before USING (symbol, ex_date, kind, ordinal)
), noted AS (
    UPDATE symbol_revisions AS held
    SET revision = held.revision + 1
    FROM (SELECT symbol, min(matters_from) AS matters_from FROM changed GROUP BY symbol) AS changed
    WHERE changed.symbol = held.symbol AND changed.matters_from <= held.newest
)
SELECT
    count(*) FILTER (WHERE is_new) AS inserted,
    count(*) FILTER (WHERE NOT is_new) + (SELECT count(*) FROM withdrawn) AS revised,
    (SELECT count(*) FROM given) - count(*) AS unchanged
FROM merged;

-- name: withdraw_actions
-- What a source no longer names within the days it has answered for goes.
WITH withdrawn AS (
    DELETE FROM corporate_actions AS held
    USING unnest(%(symbols)s::varchar[], %(firsts)s::date[], %(lasts)s::date[]) AS answered (symbol, first, last)
    WHERE held.symbol = answered.symbol
        AND held.ex_date BETWEEN answered.first AND answered.last
        AND NOT EXISTS (
            SELECT FROM incoming_actions AS given
            WHERE (given.symbol, given.ex_date, given.kind) = (held.symbol, held.ex_date, held.kind)
        )
    RETURNING held.symbol, least(held.ex_date, held.known_at) AS matters_from
), noted AS (
    UPDATE symbol_revisions AS held
    SET revision = held.revision + 1
    FROM (SELECT symbol, min(matters_from) AS matters_from FROM withdrawn GROUP BY symbol) AS changed
    WHERE changed.symbol = held.symbol AND changed.matters_from <= held.newest
)
SELECT count(*) FROM withdrawn;

-- name: replaced_actions
-- What this transaction replaced or withdrew: it began now(), and holds the locks of these symbols.
SELECT symbol, ex_date, kind, value, source, is_withdrawn, replaced_at
FROM action_revisions
WHERE symbol = ANY (%(symbols)s::varchar[]) AND replaced_at = now()
ORDER BY number;

-- name: action_revisions
-- Actions that were replaced or withdrawn, of some symbols or of all, in the order they were.
SELECT symbol, ex_date, kind, value, source, is_withdrawn, replaced_at
FROM action_revisions
WHERE %(symbols)s::varchar[] IS NULL OR symbol = ANY (%(symbols)s::varchar[])
ORDER BY symbol, ex_date, number;

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

-- name: create_incoming_findings
-- Where findings land before they are merged.
CREATE TEMPORARY TABLE incoming_findings ON COMMIT DROP AS
SELECT symbol, session, kind, known_from, detail FROM findings WITH NO DATA;

-- name: copy_findings
-- Columns in the order of the frame.
COPY incoming_findings FROM STDIN (FORMAT BINARY);

-- name: merge_findings
-- Add what is not held, and withdraw what is held of these symbols and kinds and was not found again. A finding
-- that leaves bars out matters from the session it was known.
WITH withdrawn AS (
    DELETE FROM findings AS held
    WHERE held.symbol = ANY (%(symbols)s::varchar[])
        AND held.kind = ANY (%(recomputed)s)
        AND NOT EXISTS (
            SELECT FROM incoming_findings AS given
            -- Equalities, as only those are hashed; no day is infinite.
            WHERE (given.symbol, given.kind, given.detail) = (held.symbol, held.kind, held.detail)
                AND coalesce(given.session, 'infinity') = coalesce(held.session, 'infinity')
                AND coalesce(given.known_from, 'infinity') = coalesce(held.known_from, 'infinity')
        )
    RETURNING symbol, session, kind, known_from
), added AS (
    INSERT INTO findings (symbol, session, kind, known_from, detail, source)
    SELECT symbol, session, kind, known_from, detail, %(source)s
    FROM incoming_findings
    ORDER BY symbol, session, kind, known_from, detail
    ON CONFLICT DO NOTHING
    RETURNING symbol, session, kind, known_from
)
UPDATE symbol_revisions AS held
SET revision = held.revision + 1
FROM (
    SELECT symbol, min(coalesce(known_from, session, '-infinity')) AS matters_from
    FROM (SELECT * FROM withdrawn UNION ALL SELECT * FROM added) AS touched
    WHERE kind = ANY (%(quarantining)s)
    GROUP BY symbol
) AS changed
WHERE changed.symbol = held.symbol AND changed.matters_from <= held.newest;

-- name: findings
-- Findings of some symbols, or of all and of rows that had none.
SELECT symbol, session, kind, known_from, detail
FROM findings
WHERE %(symbols)s::varchar[] IS NULL OR symbol = ANY (%(symbols)s::varchar[]);

-- name: create_incoming_quarantine
-- Where rows that are no bars land before they are merged.
CREATE TEMPORARY TABLE incoming_quarantine ON COMMIT DROP AS
SELECT symbol, session, open, high, low, close, volume, fault FROM quarantined_rows WITH NO DATA;

-- name: copy_quarantine
-- Columns in the order of the frame.
COPY incoming_quarantine FROM STDIN (FORMAT BINARY);

-- name: merge_quarantine
-- A row that was set aside before is the same row: null equals null here, and NaN equals NaN.
INSERT INTO quarantined_rows (symbol, session, open, high, low, close, volume, fault, source)
SELECT symbol, session, open, high, low, close, volume, fault, %(source)s
FROM incoming_quarantine
ORDER BY symbol, session, open, high, low, close, volume, fault
ON CONFLICT DO NOTHING;

-- name: withdraw_set_aside
-- What a source brought of the days it answers for again: what it no longer brings was corrected.
WITH answered AS (
    SELECT * FROM unnest(%(symbols)s::varchar[], %(firsts)s::date[], %(lasts)s::date[]) AS given (symbol, first, last)
), gone AS (
    DELETE FROM quarantined_rows AS held
    USING answered
    WHERE held.symbol = answered.symbol
        AND held.source = %(source)s
        AND coalesce(held.session BETWEEN answered.first AND answered.last, true)
)
DELETE FROM findings AS held
USING answered
WHERE held.symbol = answered.symbol
    AND held.source = %(source)s
    AND held.kind = ANY (%(kinds)s)
    AND coalesce(held.session BETWEEN answered.first AND answered.last, true);

-- name: withdraw_mismatches
-- Two sources are compared again: what they agree on by now is no finding.
DELETE FROM findings
WHERE symbol = ANY (%(symbols)s::varchar[])
    AND kind = 'source_mismatch'
    AND session >= coalesce(%(start)s::date, '-infinity')
    AND session <= coalesce(%(end)s::date, 'infinity');

-- name: quarantine
-- Rows set aside, of some symbols, or of all and of rows that had none.
SELECT symbol, session, open, high, low, close, volume, fault
FROM quarantined_rows
WHERE %(symbols)s::varchar[] IS NULL OR symbol = ANY (%(symbols)s::varchar[])
ORDER BY symbol NULLS FIRST, session NULLS FIRST, number;

-- name: coverage
-- Ranges a source has answered for, in order.
SELECT first, last FROM coverage WHERE symbol = %(symbol)s AND source = %(source)s ORDER BY first;

-- name: delete_coverage
-- Ranges that grew into a longer one.
DELETE FROM coverage
WHERE symbol = %(symbol)s AND source = %(source)s AND first BETWEEN %(first)s AND %(last)s;

-- name: insert_coverage
-- One range.
INSERT INTO coverage (symbol, source, first, last) VALUES (%(symbol)s, %(source)s, %(first)s, %(last)s);

-- name: keep_feature_set
-- The line of a spec and universe is made where it is missing, and locked.
INSERT INTO feature_sets AS held (spec_hash, universe_hash, revision, columns)
VALUES (%(spec_hash)s, %(universe_hash)s, %(revision)s, %(columns)s)
ON CONFLICT (spec_hash, universe_hash) DO UPDATE SET revision = held.revision
RETURNING feature_set, revision, columns;

-- name: renew_feature_set
-- The bars were revised: what was computed from the old ones goes.
WITH emptied AS (
    DELETE FROM feature_rows WHERE feature_set = %(feature_set)s
)
UPDATE feature_sets
SET revision = %(revision)s, columns = %(columns)s, newest = NULL
WHERE feature_set = %(feature_set)s;

-- name: create_incoming_features
-- Where features land before they are merged.
CREATE TEMPORARY TABLE incoming_features ON COMMIT DROP AS
SELECT symbol, session, price_growth, share_growth, features FROM feature_rows WITH NO DATA;

-- name: copy_features
-- Columns in the order in which rows are encoded.
COPY incoming_features FROM STDIN (FORMAT BINARY);

-- name: merge_features
-- Rows that are cached already are written anew.
WITH merged AS (
    INSERT INTO feature_rows (feature_set, symbol, session, price_growth, share_growth, features)
    SELECT %(feature_set)s, symbol, session, price_growth, share_growth, features FROM incoming_features
    ON CONFLICT (feature_set, symbol, session) DO UPDATE SET
        price_growth = excluded.price_growth, share_growth = excluded.share_growth, features = excluded.features
)
UPDATE feature_sets
SET newest = greatest(newest, (SELECT max(session) FROM incoming_features))
WHERE feature_set = %(feature_set)s;

-- name: lock_late_feature_sets
-- Those that reach the session a bar was appended at: it came late for them.
SELECT feature_set FROM feature_sets WHERE newest >= %(first)s ORDER BY feature_set FOR UPDATE;

-- name: withdraw_features
-- What was computed across symbols from that session on lacks the bar.
DELETE FROM feature_rows WHERE feature_set = ANY (%(feature_sets)s) AND session >= %(first)s;

-- name: cached_features
-- One row per symbol with an array per column; the features are an array of rows.
SELECT
    symbol,
    array_agg(session ORDER BY session) AS session,
    array_agg(price_growth ORDER BY session) AS price_growth,
    array_agg(share_growth ORDER BY session) AS share_growth,
    array_agg(features ORDER BY session) AS features
FROM feature_rows
JOIN feature_sets USING (feature_set)
WHERE spec_hash = %(spec_hash)s
    AND universe_hash = %(universe_hash)s
    AND revision = %(revision)s
    AND columns = %(columns)s
    AND symbol = ANY (%(symbols)s::varchar[])
    AND session >= coalesce(%(start)s::date, '-infinity')
GROUP BY symbol
ORDER BY symbol;

-- name: cached_growth
-- The first cached growth of each symbol from a session on, and how far its cache reaches.
SELECT DISTINCT ON (symbol)
    symbol, session, price_growth, share_growth, max(session) OVER (PARTITION BY symbol) AS newest
FROM feature_rows
JOIN feature_sets USING (feature_set)
WHERE spec_hash = %(spec_hash)s
    AND universe_hash = %(universe_hash)s
    AND revision = %(revision)s
    AND symbol = ANY (%(symbols)s::varchar[])
    AND session >= %(start)s
    AND price_growth <> 'NaN'
ORDER BY symbol, session;

-- name: become_app_role
-- Until the transaction ends: a pooler gives the next one another connection.
SET LOCAL ROLE swiftbolt_app;

-- name: set_claims
-- Whom the policies of row-level security let see what, until the transaction ends.
SELECT set_config('request.jwt.claims', %(claims)s, true);

-- name: settings
-- Row-level security leaves the row of whoever is signed in, or none.
SELECT settings FROM user_settings;

-- name: save_settings
-- The row is that of whoever is signed in; without one, row-level security refuses it.
INSERT INTO user_settings (user_id, settings)
VALUES (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', %(settings)s)
ON CONFLICT (user_id) DO UPDATE SET settings = excluded.settings, updated_at = clock_timestamp();

-- name: insert_run
-- A run begins.
INSERT INTO runs (run, kind, config, started, identity)
VALUES (%(run)s, %(kind)s, %(config)s, %(started)s, %(identity)s);

-- name: unfinished_run
-- The newest run that was to make the same, where it did not end well.
SELECT run, kind, state, done, failed, total, seconds, started, failures
FROM (SELECT * FROM runs WHERE identity = %(identity)s ORDER BY started DESC, run DESC LIMIT 1) AS newest
WHERE kind = %(kind)s AND state <> 'succeeded';

-- name: progress_run
-- How far a run has come.
UPDATE runs SET done = %(done)s, failed = %(failed)s, total = %(total)s WHERE run = %(run)s;

-- name: resume_run
-- A run that had ended, or was killed, goes on.
UPDATE runs SET state = 'running', seconds = NULL, ended = NULL WHERE run = %(run)s;

-- name: finish_run
-- A run ends, well or not.
UPDATE runs
SET state = %(state)s,
    seconds = %(seconds)s,
    failures = %(failures)s,
    receipt = coalesce(%(receipt)s, receipt),
    ended = started + make_interval(secs => %(seconds)s)
WHERE run = %(run)s;

-- name: run_config
SELECT config FROM runs WHERE run = %(run)s;

-- name: receipt
-- What a run took and what came of it.
SELECT receipt FROM runs WHERE run = %(run)s;

-- name: runs
-- Newest first. Lost is what nobody works on any more: its lease was not renewed for long, or is gone.
SELECT
    runs.run,
    kind,
    CASE
        WHEN state = 'running' AND (
            leases.renewed < clock_timestamp() - make_interval(secs => %(silent_s)s)
            OR leases.name IS NULL AND (identity IS NOT NULL OR kind = 'sweep')
        ) THEN 'lost'
        ELSE state
    END AS state,
    done,
    failed,
    total,
    seconds,
    started,
    failures
FROM runs
LEFT JOIN leases ON leases.run = runs.run
ORDER BY started DESC, runs.run DESC;

-- name: create_incoming_units
CREATE TEMPORARY TABLE incoming_units (LIKE run_units) ON COMMIT DROP;

-- name: copy_units
COPY incoming_units (
    run, symbol, model, fold, is_live, state, attempts, seconds, cpu_seconds, peak_mb, reason
) FROM STDIN (FORMAT binary);

-- name: merge_units
-- Only rows in some states are replaced.
INSERT INTO run_units AS held
SELECT * FROM incoming_units ORDER BY run, symbol, model, fold
ON CONFLICT (run, symbol, model, fold) DO UPDATE
SET state = excluded.state,
    attempts = excluded.attempts,
    seconds = excluded.seconds,
    cpu_seconds = excluded.cpu_seconds,
    peak_mb = excluded.peak_mb,
    reason = excluded.reason
WHERE held.state = ANY (%(replaced)s::text[]);

-- name: units
SELECT run, symbol, model, fold, is_live, state, attempts, seconds, cpu_seconds, peak_mb, reason
FROM run_units
WHERE run = %(run)s AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY symbol, model, fold;

-- name: unit_totals
SELECT
    model,
    count(*) FILTER (WHERE state = 'waiting') AS waiting,
    count(*) FILTER (WHERE state = 'done') AS done,
    count(*) FILTER (WHERE state = 'failed') AS failed,
    sum(attempts)::bigint AS attempts,
    coalesce(sum(seconds), 0) AS seconds,
    coalesce(sum(cpu_seconds), 0) AS cpu_seconds,
    max(peak_mb) AS peak_mb
FROM run_units
WHERE run = %(run)s
GROUP BY model
ORDER BY model;

-- name: take_lease
-- One that is free, ours, that of a holder known to be dead, or silent for too long.
INSERT INTO leases AS held (name, run, holder, taken, renewed)
VALUES (%(name)s, %(run)s, %(holder)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (name) DO UPDATE
SET run = excluded.run,
    holder = excluded.holder,
    taken = CASE WHEN held.holder = excluded.holder THEN held.taken ELSE excluded.taken END,
    renewed = excluded.renewed
WHERE held.holder = excluded.holder
    OR held.holder = %(instead_of)s
    OR held.renewed < clock_timestamp() - make_interval(secs => %(silent_s)s);

-- name: renew_lease
UPDATE leases SET renewed = clock_timestamp() WHERE name = %(name)s AND holder = %(holder)s;

-- name: release_lease
DELETE FROM leases WHERE name = %(name)s AND holder = %(holder)s;

-- name: leases
SELECT name, run, holder, taken, renewed, extract(epoch FROM clock_timestamp() - renewed)::float8 AS silent_s
FROM leases
WHERE (%(name)s::text IS NULL OR name = %(name)s) AND (%(run)s::text IS NULL OR run = %(run)s);

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

-- name: insert_trial
-- A configuration has one row, and at most one for each way it ended before it was complete.
INSERT INTO trials (
    key, state, source, model, horizon, config, symbols, first_origin, last_origin, sessions, net, reason,
    sharpe, crps, skill, code_version
)
SELECT
    %(key)s, %(state)s, %(source)s, %(model)s, %(horizon)s, %(config)s, %(symbols)s, %(first_origin)s, %(last_origin)s,
    %(sessions)s, %(net)s, %(reason)s, %(sharpe)s, %(crps)s, %(skill)s, %(code_version)s
WHERE NOT EXISTS (SELECT FROM trials WHERE key = %(key)s AND state = 'complete')
ON CONFLICT (key, state) DO NOTHING;

-- name: trials
-- One row a configuration, the complete one where there is one, in the order they were recorded.
SELECT
    key, recorded_at, source, state, model, horizon, config, symbols, first, last, sessions, sharpe, crps, skill,
    reason, code_version
FROM (
    SELECT DISTINCT ON (key)
        number, key, recorded_at, source, state, model, horizon, config, symbols, first_origin AS first,
        last_origin AS last, cardinality(sessions) AS sessions, sharpe, crps, skill, reason, code_version
    FROM trials
    WHERE %(model)s::text IS NULL OR model = %(model)s
    ORDER BY key, state = 'complete' DESC, number DESC
) AS looked_at
ORDER BY number;

-- name: overlapping_trials
-- What was looked at on these symbols from an origin of this range; a note without symbols is of all of them.
SELECT DISTINCT ON (key) key, sessions, net
FROM trials
WHERE (symbols && %(symbols)s::text[] OR cardinality(symbols) = 0)
    AND first_origin <= %(last)s
    AND last_origin >= %(first)s
    AND state <> 'failed'
ORDER BY key, state = 'complete' DESC;
