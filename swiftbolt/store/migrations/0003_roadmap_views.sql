-- The roadmap's table names, as views over ours: prices in dollars, where forecasts are log returns.

CREATE OR REPLACE VIEW stock_prices WITH (security_invoker = true) AS
SELECT symbol, session AS date, open, high, low, close, volume::bigint AS volume, created_at
FROM bars;

-- Targets and bounds of every published forecast; current_price is the raw close of the origin, and null
-- where that bar is not stored.
CREATE OR REPLACE VIEW price_forecasts WITH (security_invoker = true) AS
SELECT
    forecasts.version,
    forecasts.symbol,
    forecasts.origin,
    forecasts.horizon,
    forecasts.model,
    bars.close AS current_price,
    bars.close * exp(forecasts."q_0.5") AS price_target,
    bars.close * exp(forecasts."q_0.025") AS lower_ci,
    bars.close * exp(forecasts."q_0.975") AS upper_ci,
    forecasts."q_0.5" AS log_return,
    forecasts.sd AS volatility,
    forecasts.p_up,
    releases.created AS created_at
FROM forecasts
JOIN releases USING (version)
LEFT JOIN bars ON bars.symbol = forecasts.symbol AND bars.session = forecasts.origin;

-- Bounds and volatility are those of the cumulative return over forecast_horizon sessions.
CREATE OR REPLACE VIEW arima_predictions WITH (security_invoker = true) AS
SELECT
    symbol,
    origin::timestamp AT TIME ZONE 'UTC' AS prediction_date,
    current_price,
    horizon AS forecast_horizon,
    max(price_target) FILTER (WHERE horizon = 1) OVER every_horizon AS price_target_1d,
    max(price_target) FILTER (WHERE horizon = 5) OVER every_horizon AS price_target_5d,
    max(price_target) FILTER (WHERE horizon = 20) OVER every_horizon AS price_target_20d,
    lower_ci,
    upper_ci,
    volatility,
    version::text AS model_version,
    created_at
FROM price_forecasts
WHERE model = 'arima'
WINDOW every_horizon AS (PARTITION BY version, symbol);

-- The ensemble's forecasts; components are the log returns its members predicted.
CREATE OR REPLACE VIEW predictions WITH (security_invoker = true) AS
SELECT
    ensemble.symbol,
    ensemble.current_price,
    ensemble.price_target,
    ensemble.lower_ci,
    ensemble.upper_ci,
    greatest(ensemble.p_up, 1 - ensemble.p_up) AS confidence,
    CASE WHEN ensemble.p_up >= 0.5 THEN 'UP' ELSE 'DOWN' END AS direction,
    (
        SELECT jsonb_object_agg(member.model, member."q_0.5")
        FROM forecasts AS member
        WHERE (member.version, member.symbol, member.horizon) = (ensemble.version, ensemble.symbol, ensemble.horizon)
            AND member.model IN ('arima', 'xgboost', 'lstm', 'transformer')
    ) AS components,
    ensemble.created_at AS timestamp,
    ensemble.horizon,
    ensemble.version::text AS model_version
FROM price_forecasts AS ensemble
WHERE ensemble.model = 'ensemble';

-- Scores of whole universes have no symbol.
CREATE OR REPLACE VIEW model_results WITH (security_invoker = true) AS
SELECT
    scores.run,
    scores.model,
    scores.horizon,
    scores.metrics,
    NULL::text AS symbol,
    scores.model AS model_type,
    (scores.metrics ->> 'test_period_start')::date AS test_period_start,
    (scores.metrics ->> 'test_period_end')::date AS test_period_end,
    (scores.metrics ->> 'rmse')::double precision AS rmse,
    (scores.metrics ->> 'mae')::double precision AS mae,
    (scores.metrics ->> 'directional_accuracy')::double precision AS directional_accuracy,
    (scores.metrics ->> 'sharpe_ratio')::double precision AS sharpe_ratio,
    (scores.metrics ->> 'max_drawdown')::double precision AS max_drawdown,
    releases.created AS created_at
FROM scores
JOIN releases USING (run);

-- Supabase grants every new table of this schema to its web roles: anyone with the project's public key
-- could rewrite prices. The owner, whom we connect as, keeps its rights.
DO $$
DECLARE
    web_role text;
    relation text;
BEGIN
    FOR web_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        FOR relation IN
            SELECT oid::regclass::text FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v')
                AND (relname ~ '^bars(_\d{4})?$' OR relname IN (
                    'corporate_actions', 'runs', 'artifacts', 'scores', 'releases', 'forecasts', 'promotions',
                    'active_release', 'stock_prices', 'price_forecasts', 'arima_predictions', 'predictions',
                    'model_results', 'schema_migrations'
                ))
        LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %I', relation, web_role);
        END LOOP;
    END LOOP;
END
$$;
