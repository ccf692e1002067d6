-- What a budget counts as used is spent_nanos - forgiven_nanos: an operator may set that back. What was spent stays the sum of the log.
ALTER TABLE budget_periods ADD COLUMN forgiven_nanos bigint NOT NULL DEFAULT 0;
-- The budgets in which what the lease was charged when it expired was forgiven: a correction of that takes from both. Here and not in
-- lease_periods, so that whoever has waited for the lease's lock sees it.
ALTER TABLE leases ADD COLUMN forgiven_budget_ids text[] NOT NULL DEFAULT '{}';
CREATE INDEX leases_expired ON leases (key_id) WHERE state = 'expired';
