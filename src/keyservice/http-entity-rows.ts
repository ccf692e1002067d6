/** Teams, users, organizations, customers, tags and budgets in the shape of LiteLLM's rows. */

import type { JsonObject } from "../completion.ts";
import { usdNumber } from "../money.ts";
import type { TemplateRecord } from "./budget-templates.ts";
import type { EntityRecord } from "./entity-records.ts";
import { budgetColumns, isoOf } from "./http-key-rows.ts";
import type { MemberRecord } from "./members.ts";

/** What all of them have. */
function common(entity: EntityRecord): JsonObject {
  return {
    ...entity.extra,
    models: [...entity.models],
    spend: usdNumber(entity.spent),
    reserved: usdNumber(entity.reserved),
    ...budgetColumns(entity),
    rpm_limit: entity.rpmLimit,
    tpm_limit: entity.tpmLimit,
    max_parallel_requests: entity.maxParallelRequests,
    metadata: entity.metadata,
    blocked: entity.blocked,
    created_at: isoOf(entity.createdAtMs),
    created_by: entity.createdBy,
    updated_at: isoOf(entity.updatedAtMs),
    updated_by: entity.updatedBy,
  };
}

/** A team, and those who are in it. */
export function teamRow(team: EntityRecord, members: readonly MemberRecord[]): JsonObject {
  const ids = (role: string) => members.filter((member) => member.role === role).map(({ userId }) => userId);
  return {
    ...common(team),
    team_id: team.id,
    team_alias: team.alias,
    organization_id: team.organizationId,
    model_aliases: { ...team.aliases },
    tags: [...team.tags],
    admins: ids("admin"),
    members: members.map(({ userId }) => userId),
    members_with_roles: members.map(({ userId, role }) => ({ user_id: userId, user_email: null, role })),
  };
}

/** A membership of a team. */
export function membershipRow(member: MemberRecord): JsonObject {
  const { budget } = member;
  const columns = budget === undefined ? null : budgetColumns(budget);
  return {
    user_id: member.userId,
    team_id: member.entityId,
    role: member.role,
    spend: usdNumber(budget?.spent ?? 0n),
    budget_id: budget?.budgetId ?? null,
    litellm_budget_table:
      columns === null
        ? null
        : {
            max_budget: columns.max_budget ?? null,
            budget_duration: columns.budget_duration ?? null,
            budget_reset_at: columns.budget_reset_at ?? null,
            rpm_limit: member.rpmLimit,
            tpm_limit: member.tpmLimit,
          },
  };
}

/** A user, and the teams they are in. */
export function userRow(user: EntityRecord, teamIds: readonly string[]): JsonObject {
  return {
    ...common(user),
    user_id: user.id,
    user_alias: user.alias,
    user_email: user.email,
    user_role: user.role,
    organization_id: user.organizationId,
    teams: [...teamIds],
  };
}

/** An organization, and those who are in it. */
export function organizationRow(organization: EntityRecord, members: readonly MemberRecord[]): JsonObject {
  return {
    ...common(organization),
    organization_id: organization.id,
    organization_alias: organization.alias,
    members: members.map(({ userId, role, addedAtMs }) => {
      return { user_id: userId, organization_id: organization.id, user_role: role, created_at: isoOf(addedAtMs) };
    }),
  };
}

/** A customer. */
export function customerRow(customer: EntityRecord): JsonObject {
  return {
    ...common(customer),
    user_id: customer.id,
    alias: customer.alias,
    allowed_model_region: customer.extra.allowed_model_region ?? null,
    default_model: customer.extra.default_model ?? null,
  };
}

/** A tag. */
export function tagRow(tag: EntityRecord): JsonObject {
  return { ...common(tag), name: tag.id, description: tag.alias };
}

/** A budget that can be shared. */
export function templateRow(template: TemplateRecord): JsonObject {
  const { maxBudget, softBudget } = template;
  return {
    ...template.extra,
    budget_id: template.budgetId,
    max_budget: maxBudget === null ? null : usdNumber(maxBudget),
    soft_budget: softBudget === null ? null : usdNumber(softBudget),
    budget_duration: template.budgetDuration,
    rpm_limit: template.rpmLimit,
    tpm_limit: template.tpmLimit,
    max_parallel_requests: template.maxParallelRequests,
    created_at: isoOf(template.createdAtMs),
    created_by: template.createdBy,
    updated_at: isoOf(template.updatedAtMs),
    updated_by: template.updatedBy,
  };
}
