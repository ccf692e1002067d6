/** Teams, users, organizations, customers, tags, memberships and shared budgets in the messages of tollgate.admin.v1. */

import { create, type DescMessage, isFieldSet, type Message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Budget,
  BudgetSchema,
  type Entity,
  EntityKind as EntityKindMessage,
  EntitySchema,
  type Member,
  MemberSchema,
} from "../gen/tollgate/admin/v1/entities_pb.ts";
import { formatUsd } from "../money.ts";
import { countOf, limitsOf, nanosOf, rpcNames, windowMessageOf } from "./admin-messages.ts";
import { type TemplateFields, type TemplateRecord, templateEtag } from "./budget-templates.ts";
import type { EntityChange, EntityKind, EntityNames, UserRole } from "./entity-fields.ts";
import { type EntityRecord, entityEtag } from "./entity-records.ts";
import { invalid } from "./key-fields.ts";
import type { MemberFields, MemberRecord, MemberScope } from "./members.ts";

/** The fields as the messages call them. */
export const entityRpcNames: EntityNames = {
  ...(Object.fromEntries(
    Object.entries(rpcNames).map(([field, name]) => [field, name.replace(/^key\./, "entity.")]),
  ) as typeof rpcNames),
  id: "entity.id",
  email: "entity.email",
  role: "entity.role",
};

const kinds: ReadonlyMap<EntityKindMessage, EntityKind> = new Map([
  [EntityKindMessage.TEAM, "team"],
  [EntityKindMessage.USER, "user"],
  [EntityKindMessage.ORGANIZATION, "organization"],
  [EntityKindMessage.CUSTOMER, "end_user"],
  [EntityKindMessage.TAG, "tag"],
]);
const kindMessages = new Map([...kinds].map(([message, kind]) => [kind, message]));

/** @throws GatewayError `invalid_request` if it is not set. */
export function kindOf(message: EntityKindMessage): EntityKind {
  const kind = kinds.get(message);
  if (kind === undefined) throw invalid("kind", "must be set: TEAM, USER, ORGANIZATION, CUSTOMER or TAG.");
  return kind;
}

/** @throws GatewayError `invalid_request` if it is neither a team nor an organization. */
export function memberScopeOf(message: EntityKindMessage): MemberScope {
  const kind = kindOf(message);
  if (kind === "team" || kind === "organization") return kind;
  throw invalid("kind", "must be TEAM or ORGANIZATION.");
}

/** What each field that may be set becomes; unset means cleared. The other fields are output only. */
type Readers<Source, Change> = Readonly<Record<string, (message: Source) => Change>>;

const usd = (text: string | undefined, name: string) => (text === undefined ? null : nanosOf(text, name));

const entityReaders: Readers<Entity, EntityChange> = {
  alias: ({ alias }) => ({ alias: alias ?? null }),
  email: ({ email }) => ({ email: email ?? null }),
  role: ({ role }) => ({ role: (role ?? null) as UserRole | null }),
  organization_id: ({ organizationId }) => ({ organizationId: organizationId ?? null }),
  models: ({ models }) => ({ models }),
  aliases: ({ aliases }) => ({ aliases }),
  max_budget_usd: ({ maxBudgetUsd }) => ({ maxBudget: usd(maxBudgetUsd, entityRpcNames.maxBudget) }),
  soft_budget_usd: ({ softBudgetUsd }) => ({ softBudget: usd(softBudgetUsd, entityRpcNames.softBudget) }),
  budget_duration: ({ budgetDuration }) => ({ budgetDuration: budgetDuration ?? null }),
  budget_windows: ({ budgetWindows }) => ({ budgetLimits: limitsOf(budgetWindows) }),
  budget_id: ({ budgetId }) => ({ budgetId: budgetId ?? null }),
  rpm_limit: ({ rpmLimit }) => ({ rpmLimit: countOf(rpmLimit) }),
  tpm_limit: ({ tpmLimit }) => ({ tpmLimit: countOf(tpmLimit) }),
  max_parallel_requests: ({ maxParallelRequests }) => ({ maxParallelRequests: countOf(maxParallelRequests) }),
  metadata: ({ metadata }) => ({ metadata: metadata ?? {} }),
  tags: ({ tags }) => ({ tags }),
  extra: ({ extra }) => ({ extra: extra ?? {} }),
};

const memberReaders: Readers<Member, Partial<MemberFields>> = {
  role: ({ role }) => ({ role: role ?? "user" }),
  max_budget_usd: ({ maxBudgetUsd }) => ({ maxBudget: usd(maxBudgetUsd, "member.max_budget_usd") }),
  budget_duration: ({ budgetDuration }) => ({ budgetDuration: budgetDuration ?? null }),
  budget_id: ({ budgetId }) => ({ budgetId: budgetId ?? null }),
  rpm_limit: ({ rpmLimit }) => ({ rpmLimit: countOf(rpmLimit) }),
  tpm_limit: ({ tpmLimit }) => ({ tpmLimit: countOf(tpmLimit) }),
};

const templateReaders: Readers<Budget, Partial<TemplateFields>> = {
  max_budget_usd: ({ maxBudgetUsd }) => ({ maxBudget: usd(maxBudgetUsd, "budget.max_budget_usd") }),
  soft_budget_usd: ({ softBudgetUsd }) => ({ softBudget: usd(softBudgetUsd, "budget.soft_budget_usd") }),
  budget_duration: ({ budgetDuration }) => ({ budgetDuration: budgetDuration ?? null }),
  rpm_limit: ({ rpmLimit }) => ({ rpmLimit: countOf(rpmLimit) }),
  tpm_limit: ({ tpmLimit }) => ({ tpmLimit: countOf(tpmLimit) }),
  max_parallel_requests: ({ maxParallelRequests }) => ({ maxParallelRequests: countOf(maxParallelRequests) }),
  extra: ({ extra }) => ({ extra: extra ?? {} }),
};

/** What a message says of an entity. @throws as `changeOf` of keys. */
export function entityChangeOf(entity: Entity, mask: readonly string[]): EntityChange {
  return read(EntitySchema, entity, mask, entityReaders);
}

/** The same of a membership. */
export function memberChangeOf(member: Member, mask: readonly string[]): Partial<MemberFields> {
  return read(MemberSchema, member, mask, memberReaders);
}

/** The same of a shared budget. */
export function templateChangeOf(budget: Budget, mask: readonly string[]): Partial<TemplateFields> {
  return read(BudgetSchema, budget, mask, templateReaders);
}

function read<Source extends Message, Change>(
  schema: DescMessage,
  message: Source,
  mask: readonly string[],
  readers: Readers<Source, Change>,
): Change {
  let fields = Object.keys(readers);
  if (mask.length === 0) {
    fields = schema.fields.filter((field) => isFieldSet(message, field)).map(({ name }) => name);
  } else if (!mask.includes("*")) {
    fields = mask.map((path) => {
      const field = schema.fields.find(({ name, jsonName }) => name === path || jsonName === path);
      if (field === undefined) throw invalid("update_mask", `must name fields of ${schema.name}, and only whole ones.`);
      return field.name;
    });
  }
  return Object.assign({}, ...fields.map((field) => readers[field]?.(message)));
}

/** The message of an entity. */
export function entityMessageOf(entity: EntityRecord): Entity {
  return create(EntitySchema, {
    kind: kindMessages.get(entity.kind) ?? EntityKindMessage.UNSPECIFIED,
    id: entity.id,
    models: [...entity.models],
    aliases: { ...entity.aliases },
    metadata: entity.metadata,
    tags: [...entity.tags],
    extra: entity.extra,
    blocked: entity.blocked,
    spentUsd: formatUsd(entity.spent),
    reservedUsd: formatUsd(entity.reserved),
    budgetWindows: entity.windows.map(windowMessageOf),
    createTime: timestampFromMs(entity.createdAtMs),
    updateTime: timestampFromMs(entity.updatedAtMs),
    etag: entityEtag(entity),
    ...(entity.alias === null ? {} : { alias: entity.alias }),
    ...(entity.email === null ? {} : { email: entity.email }),
    ...(entity.role === null ? {} : { role: entity.role }),
    ...(entity.organizationId === null ? {} : { organizationId: entity.organizationId }),
    ...(entity.maxBudget === null ? {} : { maxBudgetUsd: formatUsd(entity.maxBudget) }),
    ...(entity.softBudget === null ? {} : { softBudgetUsd: formatUsd(entity.softBudget) }),
    ...(entity.budgetDuration === null ? {} : { budgetDuration: entity.budgetDuration }),
    ...(entity.budgetId === null ? {} : { budgetId: entity.budgetId }),
    ...(entity.resetsAtMs === undefined ? {} : { budgetResetTime: timestampFromMs(entity.resetsAtMs) }),
    ...countsOf(entity),
  });
}

/** The message of a membership. */
export function memberMessageOf(member: MemberRecord): Member {
  const { budget } = member;
  return create(MemberSchema, {
    kind: kindMessages.get(member.scope) ?? EntityKindMessage.UNSPECIFIED,
    entityId: member.entityId,
    userId: member.userId,
    role: member.role,
    spentUsd: formatUsd(budget?.spent ?? 0n),
    ...(budget === undefined || budget.maxBudget === null ? {} : { maxBudgetUsd: formatUsd(budget.maxBudget) }),
    ...(budget === undefined || budget.budgetDuration === null ? {} : { budgetDuration: budget.budgetDuration }),
    ...(budget === undefined || budget.budgetId === null ? {} : { budgetId: budget.budgetId }),
    ...countsOf({ ...member, maxParallelRequests: null }),
  });
}

/** The message of a shared budget. */
export function templateMessageOf(template: TemplateRecord): Budget {
  const { maxBudget, softBudget, budgetDuration } = template;
  return create(BudgetSchema, {
    id: template.budgetId,
    createTime: timestampFromMs(template.createdAtMs),
    updateTime: timestampFromMs(template.updatedAtMs),
    etag: templateEtag(template),
    extra: template.extra,
    ...(maxBudget === null ? {} : { maxBudgetUsd: formatUsd(maxBudget) }),
    ...(softBudget === null ? {} : { softBudgetUsd: formatUsd(softBudget) }),
    ...(budgetDuration === null ? {} : { budgetDuration }),
    ...countsOf(template),
  });
}

function countsOf(limits: Readonly<Record<"rpmLimit" | "tpmLimit" | "maxParallelRequests", number | null>>) {
  const { rpmLimit, tpmLimit, maxParallelRequests } = limits;
  return {
    ...(rpmLimit === null ? {} : { rpmLimit: BigInt(rpmLimit) }),
    ...(tpmLimit === null ? {} : { tpmLimit: BigInt(tpmLimit) }),
    ...(maxParallelRequests === null ? {} : { maxParallelRequests: BigInt(maxParallelRequests) }),
  };
}
