-- Until temp_until a budget allows temp_nanos more. Whoever lends looks at the clock; nothing has to happen when the time is over.
ALTER TABLE budgets ADD COLUMN temp_nanos bigint CHECK (temp_nanos > 0);
ALTER TABLE budgets ADD COLUMN temp_until timestamptz;
ALTER TABLE budgets ADD CONSTRAINT budgets_temp CHECK ((temp_nanos IS NULL) = (temp_until IS NULL));

CREATE OR REPLACE VIEW effective_budgets AS
  SELECT b.budget_id, b.scope, b.scope_id, b.place, b.model, b.template_id, b.removed_at,
    coalesce(b.max_nanos, t.max_nanos) AS max_nanos,
    coalesce(b.soft_nanos, t.soft_nanos) AS soft_nanos,
    coalesce(b.duration, t.duration) AS duration,
    b.temp_nanos, b.temp_until
  FROM budgets b LEFT JOIN budget_templates t USING (template_id);

CREATE OR REPLACE VIEW key_budgets AS
  SELECT s.key_id, b.budget_id, b.scope, b.scope_id, b.model, b.max_nanos, b.soft_nanos, b.duration, b.removed_at,
    b.temp_nanos, b.temp_until
  FROM key_scopes s JOIN effective_budgets b USING (scope, scope_id);
