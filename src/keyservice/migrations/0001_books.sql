-- The books: keys, their budgets, what is lent out, and what was spent. Money is int8 nano-dollars.

-- One row: the version of everything a sidecar may have cached. Taken first by every transaction that changes such a thing,
-- so that versions are committed in order and a watcher never skips one.
CREATE TABLE revision (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version bigint NOT NULL DEFAULT 1
);
INSERT INTO revision DEFAULT VALUES;

CREATE TABLE changes (
  version bigint PRIMARY KEY,
  key_id text NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE keys (
  key_id text PRIMARY KEY,
  -- HMAC-SHA-256 over the key's SHA-256 with a pepper that is not in this database.
  secret_hmac bytea NOT NULL,
  pepper_id text NOT NULL,
  masked text NOT NULL,
  alias text,
  user_id text,
  team_id text,
  models text[] NOT NULL DEFAULT '{}',
  aliases jsonb NOT NULL DEFAULT '{}',
  rpm_limit bigint CHECK (rpm_limit >= 0),
  tpm_limit bigint CHECK (tpm_limit >= 0),
  max_parallel_requests bigint CHECK (max_parallel_requests >= 0),
  metadata jsonb NOT NULL DEFAULT '{}',
  tags text[] NOT NULL DEFAULT '{}',
  -- LiteLLM fields that are kept and given back but do not act yet.
  extra jsonb NOT NULL DEFAULT '{}',
  blocked boolean NOT NULL DEFAULT false,
  expires_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  version bigint NOT NULL,
  create_request_id uuid UNIQUE,
  deleted_at timestamptz
);
-- A deleted key's alias and secret may be used again; its row stays for its spend.
CREATE UNIQUE INDEX keys_secret ON keys (secret_hmac) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX keys_alias ON keys (alias) WHERE deleted_at IS NULL;
CREATE INDEX keys_newest ON keys (created_at DESC, key_id) WHERE deleted_at IS NULL;
CREATE INDEX keys_team ON keys (team_id) WHERE deleted_at IS NULL;
CREATE INDEX keys_user ON keys (user_id) WHERE deleted_at IS NULL;

-- A budget belongs to one thing. Every key has a main one, limited or not, so that its spend has a place, and any number of
-- further windows.
CREATE TABLE budgets (
  budget_id text PRIMARY KEY,
  scope text NOT NULL,
  scope_id text NOT NULL,
  -- 0: the main one. From 1: further windows in the operator's order; their duration tells them apart.
  place smallint NOT NULL DEFAULT 0 CHECK (place >= 0),
  max_nanos bigint CHECK (max_nanos >= 0),
  soft_nanos bigint CHECK (soft_nanos >= 0),
  -- "30d", "1mo" as written; null: never resets.
  duration text,
  -- A removed window limits nothing. It counts until the period it was removed in is over, and so is right if it comes back.
  removed_at timestamptz,
  CHECK (place = 0 OR (duration IS NOT NULL AND max_nanos IS NOT NULL))
);
CREATE UNIQUE INDEX budgets_main ON budgets (scope, scope_id) WHERE place = 0;
CREATE UNIQUE INDEX budgets_window ON budgets (scope, scope_id, duration) WHERE place > 0;
CREATE INDEX budgets_scope ON budgets (scope, scope_id);

-- The budgets a key's calls are charged to, all of them in every call; those that are removed lend nothing and refuse nothing.
-- More kinds of budget become more branches here.
CREATE VIEW key_budgets AS
  SELECT k.key_id, b.budget_id, b.scope, b.scope_id, b.max_nanos, b.duration, b.removed_at
  FROM keys k JOIN budgets b ON b.scope = 'key' AND b.scope_id = k.key_id;

-- The master key's own place in the books: it may be used for calls, unlimited, and what they cost is booked. Its digest has
-- the wrong length, so no secret is ever found under it.
INSERT INTO keys (key_id, secret_hmac, pepper_id, masked, created_by, version)
  VALUES ('key_master', '\x00', 'none', 'master key', 'system', 1);
INSERT INTO budgets (budget_id, scope, scope_id) VALUES ('budget_key_master', 'key', 'key_master');

-- One row a budget and period; a period is made when it is first touched, so no job resets anything and none can be late.
-- What was reserved in a period is settled in that period.
CREATE TABLE budget_periods (
  budget_id text NOT NULL REFERENCES budgets,
  period_start timestamptz NOT NULL,
  spent_nanos bigint NOT NULL DEFAULT 0,
  reserved_nanos bigint NOT NULL DEFAULT 0 CHECK (reserved_nanos >= 0),
  PRIMARY KEY (budget_id, period_start)
  -- Updated all the time: room on the page lets a new version of a row stay beside the old one, and spares the index.
) WITH (fillfactor = 50);

-- Money lent to a pod. `outstanding` = granted - settled - returned, and is part of reserved_nanos of each of its periods
-- while the lease is open. When it expires, `outstanding` is charged as unconfirmed; from then on it is what of that charge has
-- not been corrected by settles that came in late. Each correction is a row of spend_log, (lease_id, -1), (lease_id, -2) ...
CREATE TABLE leases (
  lease_id uuid PRIMARY KEY,
  key_id text NOT NULL REFERENCES keys,
  pod_id text NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'expired', 'closed')),
  outstanding_nanos bigint NOT NULL DEFAULT 0 CHECK (outstanding_nanos >= 0),
  corrections integer NOT NULL DEFAULT 0,
  expires_at timestamptz NOT NULL,
  -- The first end of its periods; null: never.
  period_ends_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX leases_due ON leases (expires_at) WHERE state = 'open';
CREATE INDEX leases_key ON leases (key_id, expires_at) WHERE state = 'open';
CREATE INDEX leases_over ON leases (expires_at) WHERE state <> 'open';

CREATE TABLE lease_periods (
  lease_id uuid NOT NULL REFERENCES leases ON DELETE CASCADE,
  budget_id text NOT NULL,
  period_start timestamptz NOT NULL,
  PRIMARY KEY (lease_id, budget_id),
  FOREIGN KEY (budget_id, period_start) REFERENCES budget_periods
);

-- Ids of asks and returns that were carried out, so that a repeated one is answered and not repeated.
CREATE TABLE lease_requests (
  request_id uuid PRIMARY KEY,
  lease_id uuid NOT NULL,
  amount_nanos bigint NOT NULL,
  done_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX lease_requests_done ON lease_requests (done_at);

-- Every provider attempt, once. Never updated, never deleted; a wrong charge is corrected by a further row: where call_id is a
-- lease's, attempt 0 is what it was charged when it expired and those below correct that. The sum over a key's rows equals the sum of spent_nanos over its budget's periods.
CREATE TABLE spend_log (
  call_id uuid NOT NULL,
  attempt integer NOT NULL,
  key_id text NOT NULL,
  lease_id uuid,
  pod_id text NOT NULL,
  cost_nanos bigint NOT NULL,
  reserved_nanos bigint NOT NULL,
  status text NOT NULL CHECK (status IN ('success', 'failure', 'cancelled', 'unconfirmed', 'correction')),
  usage_estimated boolean NOT NULL DEFAULT false,
  operation text NOT NULL DEFAULT '',
  model_group text NOT NULL DEFAULT '',
  model text NOT NULL DEFAULT '',
  provider text NOT NULL DEFAULT '',
  deployment_id text NOT NULL DEFAULT '',
  input_tokens bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cache_read_input_tokens bigint NOT NULL DEFAULT 0,
  cache_write_input_tokens bigint NOT NULL DEFAULT 0,
  reasoning_output_tokens bigint NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL,
  ended_at timestamptz,
  first_output_at timestamptz,
  booked_at timestamptz NOT NULL DEFAULT now(),
  price_version text NOT NULL DEFAULT '',
  end_user text NOT NULL DEFAULT '',
  tags text[] NOT NULL DEFAULT '{}',
  provider_response_id text NOT NULL DEFAULT '',
  trace_id text NOT NULL DEFAULT '',
  PRIMARY KEY (call_id, attempt)
);
CREATE INDEX spend_log_newest ON spend_log (booked_at DESC, call_id, attempt);
CREATE INDEX spend_log_key ON spend_log (key_id, booked_at DESC);
