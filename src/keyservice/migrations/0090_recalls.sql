-- Which open leases are bound to a budget: their pods are asked for what they hold ahead when another pod's calls lack it. Closed ones are
-- kept for a month, and must not be walked past, nor rewritten here.
ALTER TABLE lease_periods ADD COLUMN is_open boolean NOT NULL DEFAULT false;
ALTER TABLE lease_periods ALTER COLUMN is_open SET DEFAULT true;
UPDATE lease_periods p SET is_open = true FROM leases l WHERE l.lease_id = p.lease_id AND l.state = 'open';
CREATE INDEX lease_periods_open ON lease_periods (budget_id) WHERE is_open;
