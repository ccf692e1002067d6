-- What LiteLLM's database holds, as requests to the KeyService's management HTTP, in an order in which each finds what it names.
-- Keys that are over and those of LiteLLM's own dashboard stay behind. Money spent stays behind: budgets begin anew.
SELECT path, jsonb_strip_nulls(body) AS body FROM (
  SELECT 1 AS step, budget_id AS id, '/budget/new' AS path, jsonb_build_object(
    'budget_id', budget_id, 'max_budget', max_budget, 'soft_budget', soft_budget, 'budget_duration', budget_duration,
    'tpm_limit', tpm_limit, 'rpm_limit', rpm_limit, 'max_parallel_requests', max_parallel_requests
  ) AS body FROM "LiteLLM_BudgetTable"
  UNION ALL
  SELECT 2, organization_id, '/organization/new', jsonb_build_object(
    'organization_id', organization_id, 'organization_alias', organization_alias, 'budget_id', budget_id,
    'models', models, 'metadata', metadata
  ) FROM "LiteLLM_OrganizationTable"
  UNION ALL
  SELECT 3, user_id, '/user/new', jsonb_build_object(
    'user_id', user_id, 'user_alias', user_alias, 'user_email', user_email, 'auto_create_key', false,
    'user_role', CASE WHEN user_role IN ('proxy_admin', 'proxy_admin_viewer', 'internal_user', 'internal_user_viewer') THEN user_role END,
    'models', models, 'metadata', metadata, 'max_budget', max_budget, 'budget_duration', budget_duration,
    'tpm_limit', tpm_limit, 'rpm_limit', rpm_limit, 'max_parallel_requests', max_parallel_requests
  ) FROM "LiteLLM_UserTable"
  UNION ALL
  SELECT 4, organization_id || user_id, '/organization/member_add', jsonb_build_object(
    'organization_id', organization_id, 'member', jsonb_build_object('user_id', user_id, 'role', user_role)
  ) FROM "LiteLLM_OrganizationMembership"
  UNION ALL
  SELECT 5, team_id, '/team/new', jsonb_build_object(
    'team_id', team_id, 'team_alias', team_alias, 'organization_id', organization_id, 'models', models,
    'metadata', metadata, 'blocked', blocked, 'team_member_permissions', team_member_permissions,
    'max_budget', max_budget, 'soft_budget', soft_budget, 'budget_duration', budget_duration,
    'tpm_limit', tpm_limit, 'rpm_limit', rpm_limit, 'max_parallel_requests', max_parallel_requests
  ) FROM "LiteLLM_TeamTable" WHERE team_id <> 'litellm-dashboard'
  UNION ALL
  SELECT 6, team.team_id || (member ->> 'user_id'), '/team/member_add', jsonb_build_object(
    'team_id', team.team_id, 'budget_id', membership.budget_id,
    'member', jsonb_build_object('user_id', member ->> 'user_id', 'role', coalesce(member ->> 'role', 'user'))
  ) FROM "LiteLLM_TeamTable" team
    CROSS JOIN jsonb_array_elements(CASE jsonb_typeof(team.members_with_roles) WHEN 'array' THEN team.members_with_roles ELSE '[]' END) member
    LEFT JOIN "LiteLLM_TeamMembership" membership
      ON membership.team_id = team.team_id AND membership.user_id = member ->> 'user_id'
    WHERE member ->> 'user_id' IS NOT NULL AND team.team_id <> 'litellm-dashboard'
  UNION ALL
  SELECT 7, user_id, '/customer/new', jsonb_build_object(
    'user_id', user_id, 'alias', alias, 'blocked', blocked, 'budget_id', budget_id,
    'default_model', default_model, 'allowed_model_region', allowed_model_region
  ) FROM "LiteLLM_EndUserTable"
  UNION ALL
  SELECT 8, tag_name, '/tag/new', jsonb_build_object('name', tag_name, 'models', models, 'budget_id', budget_id)
    FROM "LiteLLM_TagTable"
  UNION ALL
  -- LiteLLM keeps a key's SHA-256 and nothing else of it; the KeyService takes that in the key's place.
  SELECT 9, token, '/key/generate', jsonb_build_object(
    'key', token, 'key_alias', key_alias, 'user_id', user_id, 'team_id', team_id, 'organization_id', organization_id,
    'budget_id', budget_id, 'models', models, 'aliases', aliases, 'metadata', metadata, 'blocked', blocked,
    'allowed_routes', allowed_routes, 'allowed_cache_controls', allowed_cache_controls,
    'max_budget', max_budget, 'budget_duration', budget_duration,
    'model_max_budget', CASE WHEN model_max_budget <> '{}' THEN model_max_budget END,
    'tpm_limit', tpm_limit, 'rpm_limit', rpm_limit, 'max_parallel_requests', max_parallel_requests,
    'duration', ceil(extract(epoch FROM expires - timezone('UTC', now())))::bigint || 's'
  ) FROM "LiteLLM_VerificationToken"
    WHERE coalesce(team_id, '') <> 'litellm-dashboard' AND (expires IS NULL OR expires > timezone('UTC', now()))
) requests ORDER BY step, id
