-- Alerts of more than budgets, and their delivery to several sinks.

-- Alerts that are not of a budget have none: they are told apart by what they are about and by the window that begins at period_start.
ALTER TABLE alerts ALTER COLUMN budget_id SET DEFAULT '';
ALTER TABLE alerts ALTER COLUMN spent_nanos DROP NOT NULL;
ALTER TABLE alerts DROP CONSTRAINT alerts_budget_id_period_start_kind_key;
ALTER TABLE alerts ADD CONSTRAINT alerts_once UNIQUE (budget_id, period_start, kind, scope, scope_id);
-- What else there is to say, by name; texts only.
ALTER TABLE alerts ADD COLUMN facts jsonb NOT NULL DEFAULT '{}';
-- From then on its time runs, by the database's clock; until then it is due, whatever clock wrote next_attempt_at.
ALTER TABLE alerts ADD COLUMN first_attempt_at timestamptz;
-- The last that was told of a deployment.
CREATE INDEX alerts_deployment ON alerts (scope_id, created_at) WHERE scope = 'deployment';
