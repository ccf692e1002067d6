-- What operators are to be told, once for each budget and period, and how far that has come.
CREATE TABLE alerts (
  alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- "soft_budget", "budget_80", "budget_95", "budget_100", "projected_limit"
  kind text NOT NULL,
  budget_id text NOT NULL,
  period_start timestamptz NOT NULL,
  -- As it was when that happened.
  scope text NOT NULL,
  scope_id text NOT NULL,
  model text,
  duration text,
  spent_nanos bigint NOT NULL,
  max_nanos bigint,
  soft_nanos bigint,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- Sinks that have it; it is due for the others at next_attempt_at, if that is not null.
  delivered_to text[] NOT NULL DEFAULT '{}',
  attempts integer NOT NULL DEFAULT 0,
  next_attempt_at timestamptz DEFAULT now(),
  UNIQUE (budget_id, period_start, kind)
);
CREATE INDEX alerts_due ON alerts (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
