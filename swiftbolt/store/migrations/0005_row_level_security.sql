-- Who may see what: requests are answered as the role swiftbolt_app, which reads the market and of the users'
-- tables only the rows of whoever is signed in. A users' table has a column user_id, and forced row-level security.

-- Roles belong to the server, tables to one of its databases: another database may have made the role, or be making
-- it now. From PostgreSQL 16 on its maker must also be allowed to act as it.
DO $$
DECLARE
    acting text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'swiftbolt_app') THEN
        BEGIN
            CREATE ROLE swiftbolt_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'swiftbolt_app' AND (rolsuper OR rolbypassrls)) THEN
        RAISE EXCEPTION 'the role swiftbolt_app passes row-level security by: ALTER ROLE swiftbolt_app NOSUPERUSER'
            ' NOBYPASSRLS, then migrate again';
    END IF;
    IF NOT pg_has_role(current_user, 'swiftbolt_app', acting) THEN
        BEGIN
            EXECUTE format('GRANT swiftbolt_app TO %I', current_user);
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'the database user % may not make the role that answers requests: let an administrator run'
        ' CREATE ROLE swiftbolt_app NOLOGIN NOSUPERUSER NOBYPASSRLS (where it is missing) and GRANT swiftbolt_app TO'
        ' %, then migrate again', current_user, quote_ident(current_user);
END
$$;

CREATE TABLE IF NOT EXISTS user_settings (
    user_id     text PRIMARY KEY CHECK (user_id <> '' AND length(user_id) <= 255),
    settings    jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE user_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_settings FORCE ROW LEVEL SECURITY;

-- Without claims the setting is null, or empty where an earlier transaction had some: nobody's rows.
DROP POLICY IF EXISTS own_rows ON user_settings;
CREATE POLICY own_rows ON user_settings TO swiftbolt_app
    USING (user_id = (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))
    WITH CHECK (user_id = (SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'));

GRANT SELECT, INSERT, UPDATE, DELETE ON user_settings TO swiftbolt_app;
GRANT SELECT ON
    bars, corporate_actions, findings, releases, promotions, active_release, forecasts, scores,
    stock_prices, price_forecasts, arima_predictions, predictions, model_results
TO swiftbolt_app;

DO $$
DECLARE
    web_role text;
BEGIN
    IF NOT has_schema_privilege('swiftbolt_app', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO swiftbolt_app', current_schema());
    END IF;
    FOR web_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON user_settings FROM %I', web_role);
    END LOOP;
END
$$;
