-- The spend log in parts that can be dropped when they are old enough, and what is added up over its rows.

ALTER TABLE spend_log RENAME TO spend_log_whole;
ALTER INDEX spend_log_newest RENAME TO spend_log_whole_newest;
ALTER INDEX spend_log_key RENAME TO spend_log_whole_key;

-- As before, with whom a row was booked for. Parts are cut by call id, which begins with the time it was made (UUID version 7): so
-- that (call_id, attempt) is unique over all parts. Ids that are no such UUIDs are in the default part.
CREATE TABLE spend_log (
  LIKE spend_log_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
  team_id text NOT NULL DEFAULT '',
  user_id text NOT NULL DEFAULT '',
  organization_id text NOT NULL DEFAULT '',
  -- Budgets it was charged to besides those of its key: of its model, its end user, its tags.
  budget_ids text[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (call_id, attempt)
) PARTITION BY RANGE (call_id);
CREATE TABLE spend_log_default PARTITION OF spend_log DEFAULT;
CREATE INDEX spend_log_newest ON spend_log (booked_at DESC, call_id, attempt);
CREATE INDEX spend_log_key ON spend_log (key_id, booked_at DESC);

INSERT INTO spend_log
  SELECT w.*, coalesce(k.team_id, ''), coalesce(k.user_id, ''), coalesce(k.organization_id, ''), '{}'
  FROM spend_log_whole w LEFT JOIN keys k USING (key_id);
DROP TABLE spend_log_whole;

-- Sums over the spend log, written in the transactions that write its rows, so that they are equal to it at any time. A day is one of
-- the configured time zone. Old parts of the log are dropped; these sums stay.
CREATE TABLE daily_spend (
  day date NOT NULL,
  key_id text NOT NULL,
  team_id text NOT NULL,
  user_id text NOT NULL,
  organization_id text NOT NULL,
  model_group text NOT NULL,
  model text NOT NULL,
  provider text NOT NULL,
  cost_nanos bigint NOT NULL,
  input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  cache_read_input_tokens bigint NOT NULL,
  cache_write_input_tokens bigint NOT NULL,
  successes bigint NOT NULL,
  failures bigint NOT NULL,
  PRIMARY KEY (day, key_id, team_id, user_id, organization_id, model_group, model, provider)
) WITH (fillfactor = 70);
CREATE INDEX daily_spend_key ON daily_spend (key_id, day);
CREATE INDEX daily_spend_team ON daily_spend (team_id, day);
CREATE INDEX daily_spend_user ON daily_spend (user_id, day);

-- The same by what calls name: end users and tags. A call is in the row of each of its tags.
CREATE TABLE daily_party_spend (
  day date NOT NULL,
  scope text NOT NULL,
  scope_id text NOT NULL,
  key_id text NOT NULL,
  team_id text NOT NULL,
  user_id text NOT NULL,
  organization_id text NOT NULL,
  model_group text NOT NULL,
  model text NOT NULL,
  provider text NOT NULL,
  cost_nanos bigint NOT NULL,
  input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  cache_read_input_tokens bigint NOT NULL,
  cache_write_input_tokens bigint NOT NULL,
  successes bigint NOT NULL,
  failures bigint NOT NULL,
  PRIMARY KEY (scope, scope_id, day, key_id, team_id, user_id, organization_id, model_group, model, provider)
) WITH (fillfactor = 70);
CREATE INDEX daily_party_spend_day ON daily_party_spend (scope, day);

-- What was booked before this table was there, by UTC days.
INSERT INTO daily_spend
  SELECT (started_at AT TIME ZONE 'UTC')::date, key_id, team_id, user_id, organization_id, model_group, model, provider,
    sum(cost_nanos), sum(input_tokens), sum(output_tokens), sum(cache_read_input_tokens), sum(cache_write_input_tokens),
    count(*) FILTER (WHERE attempt > 0 AND status = 'success'), count(*) FILTER (WHERE attempt > 0 AND status <> 'success')
  FROM spend_log GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
INSERT INTO daily_party_spend
  SELECT (started_at AT TIME ZONE 'UTC')::date, p.scope, p.scope_id, key_id, team_id, user_id, organization_id, model_group, model,
    provider, sum(cost_nanos), sum(input_tokens), sum(output_tokens), sum(cache_read_input_tokens),
    sum(cache_write_input_tokens),
    count(*) FILTER (WHERE attempt > 0 AND status = 'success'), count(*) FILTER (WHERE attempt > 0 AND status <> 'success')
  FROM spend_log CROSS JOIN LATERAL (
    SELECT 'end_user', end_user WHERE end_user <> '' UNION SELECT 'tag', unnest(tags)
  ) AS p (scope, scope_id)
  GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10;
