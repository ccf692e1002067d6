-- Budgets and limits of more than keys.

-- What budgets and limits belong to besides keys. An id that is used again after its entity was deleted gets its budgets back,
-- with what was spent in their periods.
CREATE TABLE entities (
  scope text NOT NULL CHECK (scope IN ('team', 'user', 'organization', 'end_user', 'tag')),
  entity_id text NOT NULL,
  alias text,
  -- Users: where they are reached, and what they may administer.
  email text,
  role text,
  -- Teams and users: the organization they belong to.
  organization_id text,
  models text[] NOT NULL DEFAULT '{}',
  aliases jsonb NOT NULL DEFAULT '{}',
  rpm_limit bigint CHECK (rpm_limit >= 0),
  tpm_limit bigint CHECK (tpm_limit >= 0),
  max_parallel_requests bigint CHECK (max_parallel_requests >= 0),
  metadata jsonb NOT NULL DEFAULT '{}',
  tags text[] NOT NULL DEFAULT '{}',
  -- LiteLLM fields that are kept and given back but do not act.
  extra jsonb NOT NULL DEFAULT '{}',
  blocked boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL,
  version bigint NOT NULL,
  create_request_id uuid UNIQUE,
  deleted_at timestamptz,
  PRIMARY KEY (scope, entity_id),
  -- The id of a member is "user:team", and ends at the last colon.
  CHECK (scope <> 'team' OR entity_id NOT LIKE '%:%')
);
CREATE INDEX entities_newest ON entities (scope, created_at DESC, entity_id) WHERE deleted_at IS NULL;
CREATE INDEX entities_organization ON entities (organization_id) WHERE organization_id IS NOT NULL AND deleted_at IS NULL;

-- Users in teams and organizations.
CREATE TABLE members (
  scope text NOT NULL CHECK (scope IN ('team', 'organization')),
  entity_id text NOT NULL,
  user_id text NOT NULL,
  role text NOT NULL,
  rpm_limit bigint CHECK (rpm_limit >= 0),
  tpm_limit bigint CHECK (tpm_limit >= 0),
  added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, entity_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

-- Budgets to be shared: each that uses a template counts for itself, and takes from it what it does not say itself.
CREATE TABLE budget_templates (
  template_id text PRIMARY KEY,
  max_nanos bigint CHECK (max_nanos >= 0),
  soft_nanos bigint CHECK (soft_nanos >= 0),
  duration text,
  rpm_limit bigint CHECK (rpm_limit >= 0),
  tpm_limit bigint CHECK (tpm_limit >= 0),
  max_parallel_requests bigint CHECK (max_parallel_requests >= 0),
  extra jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL,
  version bigint NOT NULL
);

ALTER TABLE budgets ADD COLUMN template_id text REFERENCES budget_templates;
-- Only calls to this model are charged to it; `*` wildcards allowed. Such budgets have the scope "model" and their key's id.
ALTER TABLE budgets ADD COLUMN model text CHECK (model IS NOT NULL OR scope <> 'model');
ALTER TABLE budgets DROP CONSTRAINT budgets_check;
ALTER TABLE budgets ADD CONSTRAINT budgets_windows CHECK (place = 0 OR max_nanos IS NOT NULL);
DROP INDEX budgets_window;
CREATE UNIQUE INDEX budgets_window ON budgets (scope, scope_id, coalesce(model, ''), coalesce(duration, '')) WHERE place > 0;

ALTER TABLE keys ADD COLUMN organization_id text;
UPDATE keys SET organization_id = extra->>'organization_id', extra = extra - 'organization_id' WHERE extra ? 'organization_id';
CREATE INDEX keys_organization ON keys (organization_id) WHERE deleted_at IS NULL AND organization_id IS NOT NULL;

-- Budgets as they hold.
CREATE VIEW effective_budgets AS
  SELECT b.budget_id, b.scope, b.scope_id, b.place, b.model, b.template_id, b.removed_at,
    coalesce(b.max_nanos, t.max_nanos) AS max_nanos,
    coalesce(b.soft_nanos, t.soft_nanos) AS soft_nanos,
    coalesce(b.duration, t.duration) AS duration
  FROM budgets b LEFT JOIN budget_templates t USING (template_id);

-- What else stands behind a key. As in LiteLLM, a user's own budget and limits hold for the keys they have outside teams; inside
-- a team it is their membership that has them.
CREATE VIEW key_scopes AS
  SELECT k.key_id, s.scope, s.scope_id
  FROM keys k
    LEFT JOIN entities t ON t.scope = 'team' AND t.entity_id = k.team_id AND t.deleted_at IS NULL
    CROSS JOIN LATERAL (VALUES
      ('key', k.key_id),
      ('team', k.team_id),
      ('team_member', k.user_id || ':' || k.team_id),
      ('user', CASE WHEN k.team_id IS NULL THEN k.user_id END),
      ('organization', coalesce(k.organization_id, t.organization_id))
    ) AS s (scope, scope_id)
  WHERE s.scope_id IS NOT NULL;

-- The budgets a key's calls are charged to, all of them in every call; those that are removed lend nothing and refuse nothing.
-- A call may name further ones by their ids: of its model, its end user, its tags.
DROP VIEW key_budgets;
CREATE VIEW key_budgets AS
  SELECT s.key_id, b.budget_id, b.scope, b.scope_id, b.model, b.max_nanos, b.soft_nanos, b.duration, b.removed_at
  FROM key_scopes s JOIN effective_budgets b USING (scope, scope_id);

-- What holds for a key because of each thing behind it. Limits that are not said there are the budget template's.
CREATE VIEW key_rules AS
  SELECT s.key_id, s.scope, s.scope_id, coalesce(e.blocked, false) AS blocked,
    coalesce(e.models, '{}') AS models, coalesce(e.aliases, '{}') AS aliases, coalesce(e.tags, '{}') AS tags,
    coalesce(own.rpm_limit, e.rpm_limit, m.rpm_limit, t.rpm_limit) AS rpm_limit,
    coalesce(own.tpm_limit, e.tpm_limit, m.tpm_limit, t.tpm_limit) AS tpm_limit,
    coalesce(own.max_parallel_requests, e.max_parallel_requests, t.max_parallel_requests) AS max_parallel_requests
  FROM key_scopes s JOIN keys k USING (key_id)
    LEFT JOIN keys own ON s.scope = 'key' AND own.key_id = s.scope_id
    LEFT JOIN entities e ON e.scope = s.scope AND e.entity_id = s.scope_id AND e.deleted_at IS NULL
    LEFT JOIN members m ON s.scope = 'team_member' AND m.scope = 'team' AND m.entity_id = k.team_id AND m.user_id = k.user_id
    LEFT JOIN budgets b ON b.scope = s.scope AND b.scope_id = s.scope_id AND b.place = 0 AND b.removed_at IS NULL
    LEFT JOIN budget_templates t ON t.template_id = b.template_id;

-- What changed: a key, an entity, or ('all', '') anything.
ALTER TABLE changes RENAME COLUMN key_id TO entity_id;
ALTER TABLE changes ADD COLUMN scope text NOT NULL DEFAULT 'key';
