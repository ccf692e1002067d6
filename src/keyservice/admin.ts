/** The gRPC face of administration: tollgate.admin.v1. */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import type {
  CreateKeyRequest,
  EstimateCostRequest,
  GetSpendReportRequest,
  KeyAdminService,
  ListDailyActivityRequest,
  ListSpendRequest,
  SpendAdminService,
} from "../gen/tollgate/admin/v1/keys_pb.ts";
import { formatUsd } from "../money.ts";
import type { Secret } from "../secret.ts";
import { changeOf, messageOf, nanosOf, refusalOf, rpcNames, spendMessageOf } from "./admin-messages.ts";
import type { AuditLog } from "./audit-log.ts";
import type { BudgetTemplates } from "./budget-templates.ts";
import { estimateCost, likelyTokens } from "./cost-estimates.ts";
import type { Credentials } from "./credentials.ts";
import { readDailyActivity, seenActivity } from "./daily-activity.ts";
import { eachForItself } from "./each-for-itself.ts";
import type { Entities } from "./entities.ts";
import { invalid } from "./key-fields.ts";
import type { NewKey } from "./key-requests.ts";
import { checkSecret, readReference } from "./key-secrets.ts";
import type { KeyFilter } from "./key-selection.ts";
import type { Keys } from "./keys.ts";
import type { Members } from "./members.ts";
import type { Models } from "./models.ts";
import type { Operator } from "./operator.ts";
import type { Operators } from "./operators.ts";
import { pageSizeOf, readPageToken, writePageToken } from "./page-token.ts";
import type { Queryable } from "./postgres.ts";
import type { ProviderBudgets } from "./provider-budgets.ts";
import { activityOf, daysOf, dimensionsOf, sumFilterOf, sumMessageOf } from "./report-messages.ts";
import { masterKeyId } from "./secrets.ts";
import { readSpend, uuidForm } from "./spend-reader.ts";
import { addUp, readSums } from "./spend-sums.ts";

/** What both faces of administration are made of, for one operator: it does what he may, and in his name. */
export interface AdminParts {
  readonly operator: Operator;
  readonly audit: AuditLog;
  readonly keys: Keys;
  readonly entities: Entities;
  readonly members: Members;
  readonly templates: BudgetTemplates;
  readonly models: Models;
  readonly credentials: Credentials;
  readonly books: Queryable;
  readonly masterKey: Secret;
  readonly clock: Clock;
  readonly providerBudgets: ProviderBudgets;
  /** Does several things in one transaction, all or none: those of `work`'s own parts. */
  together<Result>(work: (parts: AdminParts) => Promise<Result>): Promise<Result>;
  /** Sets back the budgets of all keys and teams. @returns of how many. */
  resetSpend(): Promise<number>;
  /** Whose days are meant: an IANA name. */
  readonly timeZone: string;
}

/** Administration, as whoever does it. */
export interface Administration {
  readonly operators: Operators;
  /** What an operator works with. */
  as(operator: Operator): AdminParts;
}

const microseconds = /^\d{1,17}$/;
const keyIdForm = /^key_[0-9A-Za-z]{1,40}$/;
/** What Postgres can hold, and is not too long for it. */
const aliasForm = /^[^\p{Cs}\0]{1,256}$/u;
const offsetForm = /^\d{1,9}$/;
const attemptForm = /^-?\d{1,9}$/;

/** Makes the implementation of KeyAdminService. */
export function keyAdmin({ keys, masterKey }: AdminParts): ServiceImpl<typeof KeyAdminService> {
  return {
    async createKey(request) {
      const { requestId } = request;
      if (requestId !== "" && !uuidForm.test(requestId)) throw invalid("request_id", "must be a UUID.");
      const made = await keys.create({ ...newKeyOf(request, { masterKey }), requestId: requestId || undefined });
      return { key: messageOf(made.key), secret: made.secret ?? "" };
    },
    async getKey({ key }) {
      return { key: messageOf(await keys.get(readReference(key))) };
    },
    async updateKey({ key, updateMask }) {
      if (key === undefined || key.id === "") throw invalid("key.id", "must name the key, by its id or alias.");
      const updated = await keys.update(readReference(key.id), {
        change: changeOf(key, updateMask?.paths ?? []),
        names: rpcNames,
        etag: key.etag === "" ? undefined : key.etag,
      });
      return { key: messageOf(updated) };
    },
    async batchUpdateKeys({ requests }) {
      const outcomes = await eachForItself(requests, async ({ key, updateMask }) => {
        if (key === undefined || key.id === "") throw invalid("key.id", "must name the key, by its id or alias.");
        const change = changeOf(key, updateMask?.paths ?? []);
        return keys.update(readReference(key.id), { change, names: rpcNames, etag: key.etag || undefined });
      });
      return {
        results: outcomes.map((outcome) =>
          "done" in outcome ? { key: messageOf(outcome.done) } : { refusal: refusalOf(outcome.refusal) },
        ),
      };
    },
    async listKeyAliases({ pageSize, pageToken, teamId, userId, organizationId }) {
      const filter: KeyFilter = {
        ...{ teamId: teamId || undefined, userId: userId || undefined, organizationId: organizationId || undefined },
      };
      const asked = [teamId, userId, organizationId];
      const limit = pageSizeOf(pageSize);
      const [after = ""] = readPageToken(pageToken, asked, [aliasForm]) ?? [];
      const found = await keys.listAliases(filter, { after, limit: limit + 1 });
      const aliases = found.slice(0, limit);
      const last = found.length > limit ? aliases.at(-1) : undefined;
      return { aliases, nextPageToken: last === undefined ? "" : writePageToken(asked, [last]) };
    },
    async rotateKey({ key, gracePeriod, secret, changes, updateMask, duration }) {
      if (secret !== "") checkSecret(secret, masterKey, rpcNames.secret);
      const change = changes === undefined ? {} : changeOf(changes, updateMask?.paths ?? []);
      const rotated = await keys.rotate(readReference(key), {
        change: { ...change, ...(duration === "" ? {} : { duration }) },
        names: rpcNames,
        etag: changes?.etag || undefined,
        secret: secret === "" ? undefined : secret,
        gracePeriod,
        gracePeriodName: "grace_period",
      });
      return { key: messageOf(rotated.key), secret: rotated.secret };
    },
    async resetKeyBudget({ key, resetToUsd }) {
      const resetTo = resetToUsd === "" ? 0n : nanosOf(resetToUsd, "reset_to_usd");
      const reset = await keys.resetSpend(readReference(key), resetTo, "reset_to_usd");
      return { key: messageOf(reset.key), previousSpentUsd: formatUsd(reset.previous) };
    },
    async deleteKey({ key }) {
      const { keyId } = await keys.get(readReference(key));
      await keys.delete([keyId]);
      return {};
    },
    async listKeys({ pageSize, pageToken, teamId, userId, organizationId, alias, showDeleted }) {
      const filter: KeyFilter = {
        ...{ teamId: teamId || undefined, userId: userId || undefined, organizationId: organizationId || undefined },
        references: alias === "" ? [] : [{ kind: "alias", alias }],
        deleted: showDeleted,
      };
      const asked = [teamId, userId, organizationId, alias, String(showDeleted)];
      const size = pageSizeOf(pageSize);
      const place = readPageToken(pageToken, asked, [microseconds, keyIdForm]);
      const after = place && { createdAtUs: BigInt(place[0]), keyId: place[1] };
      const [found, total] = await Promise.all([keys.listAfter(filter, after, size + 1), keys.count(filter)]);
      const page = found.slice(0, size);
      const last = found.length > size ? page.at(-1)?.place : undefined;
      return {
        keys: page.map(messageOf),
        nextPageToken: last ? writePageToken(asked, [String(last.createdAtUs), last.keyId]) : "",
        totalCount: BigInt(total),
      };
    },
    async blockKey({ key }) {
      return { key: messageOf(await keys.setBlocked(readReference(key), true)) };
    },
    async unblockKey({ key }) {
      return { key: messageOf(await keys.setBlocked(readReference(key), false)) };
    },
  };
}

/** A key to be made, as a message says it. @throws GatewayError `invalid_request`. */
export function newKeyOf(
  { key, duration, secret, ofService }: CreateKeyRequest,
  { masterKey }: Pick<AdminParts, "masterKey">,
): Omit<NewKey, "requestId"> {
  if (secret !== "") checkSecret(secret, masterKey, rpcNames.secret);
  return {
    change: { ...(key && changeOf(key, [])), ...(duration === "" ? {} : { duration }) },
    names: rpcNames,
    secret: secret || undefined,
    ofService,
  };
}

/** Makes the implementation of SpendAdminService. */
export function spendAdmin(parts: AdminParts): ServiceImpl<typeof SpendAdminService> {
  const { keys, books, timeZone, operator, models, clock } = parts;
  return {
    async estimateCost(request: EstimateCostRequest) {
      const { provider, price, ...found } = await estimateCost(models, {
        model: request.model,
        tokens: {
          inputTokens: request.messages.length > 0 ? likelyTokens(request.messages) : Number(request.inputTokens),
          outputTokens: Number(request.outputTokens),
          cacheReadInputTokens: Number(request.cacheReadInputTokens),
          cacheWriteInputTokens: Number(request.cacheWriteInputTokens),
        },
        names: {
          ...{ model: "model", inputTokens: "input_tokens", outputTokens: "output_tokens" },
          cacheReadInputTokens: "cache_read_input_tokens",
          cacheWriteInputTokens: "cache_write_input_tokens",
        },
        nowMs: clock.nowMs(),
      });
      return {
        provider: provider ?? "",
        costUsd: formatUsd(found.cost),
        inputCostUsd: formatUsd(found.input),
        outputCostUsd: formatUsd(found.output),
        priceVersion: price.version,
      };
    },
    async resetSpend() {
      return { budgets: BigInt(await parts.resetSpend()) };
    },
    async listProviderBudgets() {
      const found = await parts.providerBudgets.list();
      return {
        budgets: found.map(({ provider, max, duration, spent, resetsAtMs }) => ({
          ...{ provider, maxBudgetUsd: formatUsd(max), budgetDuration: duration ?? "", spentUsd: formatUsd(spent) },
          ...(resetsAtMs !== undefined && { budgetResetTime: timestampFromMs(resetsAtMs) }),
        })),
      };
    },
    async listSpend({ pageSize, pageToken, key, callId, userId, startDay, endDay }: ListSpendRequest) {
      const size = pageSizeOf(pageSize);
      const asked = [key, callId, userId, startDay, endDay];
      const place = readPageToken(pageToken, asked, [microseconds, uuidForm, attemptForm]);
      const after = place && { atUs: BigInt(place[0]), callId: place[1], attempt: Number(place[2]) };
      const days = daysOf(startDay, endDay);
      const filter = operator.ownSpend({
        keyId: await payerOf(keys, key),
        callId: callId || undefined,
        userId: userId || undefined,
        days: days && { ...days, timeZone },
      });
      const found = await readSpend(books, filter, { after, limit: size + 1 });
      const page = found.slice(0, size);
      const last = found.length > size ? page.at(-1)?.place : undefined;
      const next = last && [String(last.atUs), last.callId, String(last.attempt)];
      return { spend: page.map(spendMessageOf), nextPageToken: next ? writePageToken(asked, next) : "" };
    },
    async getSpendReport(request: GetSpendReportRequest) {
      const { pageSize, pageToken, groupBy, filters, startDay, endDay } = request;
      const limit = pageSizeOf(pageSize);
      const asked = [
        JSON.stringify([groupBy, filters.map(({ dimension, ids }) => [dimension, ids]), startDay, endDay]),
      ];
      const [place = "0"] = readPageToken(pageToken, asked, [offsetForm]) ?? [];
      const offset = Number(place);
      const found = await readSums(books, dimensionsOf(groupBy), sumFilterOf(request), { limit: limit + 1, offset });
      const next = found.length > limit ? writePageToken(asked, [String(offset + limit)]) : "";
      return { sums: found.slice(0, limit).map(sumMessageOf), nextPageToken: next };
    },
    async listDailyActivity(request: ListDailyActivityRequest) {
      const { pageSize, pageToken, dimension, ids, filters, startDay, endDay } = request;
      const limit = pageSizeOf(pageSize);
      const asked = [
        JSON.stringify([dimension, ids, filters.map((one) => [one.dimension, one.ids]), startDay, endDay]),
      ];
      const [place = "0"] = readPageToken(pageToken, asked, [offsetForm]) ?? [];
      const offset = Number(place);
      const { whose, filter: wanted } = activityOf(request);
      const own = seenActivity(operator, whose, wanted.only?.[whose]);
      const filter = own === undefined ? wanted : { ...wanted, only: { ...wanted.only, [whose]: own } };
      const { days, dayCount, total } = await readDailyActivity(books, whose, filter, { offset, limit });
      return {
        days: days.map(({ day, sums }) => ({
          total: sumMessageOf({ day, ...addUp(sums) }),
          parts: sums.map(sumMessageOf),
        })),
        nextPageToken: offset + limit < dayCount ? writePageToken(asked, [String(offset + limit)]) : "",
        total: sumMessageOf(total),
      };
    },
  };
}

/**
 * The id of the key whose spend is asked for. An id is taken as it is, so that what deleted keys spent can be read.
 *
 * @param text an id, an alias, a secret or its SHA-256; "" for all keys.
 * @throws GatewayError `not_found`.
 */
export async function payerOf(keys: Keys, text: string): Promise<string | undefined> {
  if (text === "" || text === masterKeyId) return text || undefined;
  const reference = readReference(text);
  return reference.kind === "id" ? reference.keyId : (await keys.get(reference)).keyId;
}
