/** Administration of virtual keys: what both faces, gRPC and HTTP, come down to. */

import type { Clock } from "../clock.ts";
import type { KeyRules } from "../config/creation-rules.ts";
import { durationMs, parseDuration } from "../duration.ts";
import { formatUsd, type Nanos } from "../money.ts";
import { checkAutoRotation } from "./auto-rotation.ts";
import { inBooks } from "./books.ts";
import type { AsOf } from "./budget-records.ts";
import { bumpRevision } from "./changes.ts";
import { checkExtra } from "./extra-fields.ts";
import { forgiveSpend } from "./forgiveness.ts";
import { forgetSecrets, graceOf, refuseFormerSecret, replaceSecret } from "./former-secrets.ts";
import {
  checkBudget,
  checkKeyChange,
  checkTime,
  type FieldNames,
  invalid,
  type KeyChange,
  type KeyFields,
  requireEtag,
} from "./key-fields.ts";
import { etagOf, type KeyPlace, type KeyRecord, readKeys } from "./key-records.ts";
import { changedMeanwhile, noSuchKey, taken, violatedIndex } from "./key-refusals.ts";
import type { KeyRotation, KeyUpdate, NewKey } from "./key-requests.ts";
import { bounded, checkService, checkTempBound, requireTeam, withDefaults } from "./key-rules.ts";
import { isDigest, type KeyReference, newKeyId, newSecret, storedSecret } from "./key-secrets.ts";
import { type KeyFilter, type KeyOrder, newestFirst, selectKeys, sortedBy } from "./key-selection.ts";
import { checkWindows, windowsOf } from "./key-windows.ts";
import { insertKey, updateKey } from "./key-writes.ts";
import type { KeyAction, Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";
import type { Pepper, StoredSecret } from "./secrets.ts";

/** When a secret ends whose successor nobody has yet: the year 9999. */
const untilDeliveredMs = 253_370_764_800_000;

/** What the administration of keys is made of. */
export interface KeysParts {
  /** Who does it: what he may not, is refused, and what he may not see, is not in lists. */
  readonly operator: Operator;
  readonly postgres: Database;
  readonly pepper: Pepper;
  readonly clock: Clock;
  /** Whether the secrets of keys that rotate by themselves are delivered to somebody. Default: no. */
  readonly deliversSecrets?: boolean;
  /** An IANA name: where budget days begin at midnight. */
  readonly timeZone: string;
  /** What holds for keys that are made or changed. */
  readonly keyRules: KeyRules;
}

/**
 * The virtual keys. A change is in force on every sidecar as soon as that has heard of it, a moment after it is made.
 *
 * Every method may throw GatewayError `keyservice_unavailable`, `permission_denied`, `team_member_permission_error`.
 */
export class Keys {
  readonly #parts: KeysParts;

  constructor(parts: KeysParts) {
    this.#parts = parts;
  }

  /**
   * Makes a key.
   *
   * @returns the key, and its secret unless the request is a repetition.
   * @throws GatewayError `invalid_request`, `already_exists` (alias or secret).
   */
  async create(asked: NewKey): Promise<{ key: KeyRecord; secret: string | undefined }> {
    const wanted = this.#owned(asked.change);
    const change = withDefaults(wanted, this.#parts.keyRules, asked.ofService);
    if (asked.ofService === true) checkService(wanted, asked.names);
    const fields = this.#check({ ...asked, change }, true);
    this.#checkTemp(fields, asked.names);
    this.#checkRotation(fields, undefined);
    const earlier = await this.#createdBefore(asked.requestId);
    if (earlier !== undefined) return { key: earlier, secret: undefined };
    const secret = asked.secret ?? newSecret();
    try {
      return { key: await this.#insert(asked, fields, secret), secret };
    } catch (error) {
      // Of two requests with one id at the same time, the second finds the first one's row.
      if (violatedIndex(error) !== "keys_create_request_id_key") throw taken(error, asked.names);
      return { key: (await this.#createdBefore(asked.requestId)) ?? noSuchKey(), secret: undefined };
    }
  }

  /** @throws GatewayError `not_found`. */
  async get(reference: KeyReference): Promise<KeyRecord> {
    return (await this.find(reference)) ?? noSuchKey();
  }

  /** One that something is to be done to. */
  async #getFor(action: KeyAction, reference: KeyReference): Promise<KeyRecord> {
    const [key] = await this.#read({ references: [reference] });
    if (key === undefined) noSuchKey();
    this.#parts.operator.checkKey(action, key);
    return key;
  }

  /** A key that was deleted; of several the youngest. */
  async findDeleted(reference: KeyReference): Promise<KeyRecord | undefined> {
    const [key] = await this.#read({ references: [reference], deleted: true });
    if (key !== undefined) this.#parts.operator.checkKey("/key/info", key);
    return key;
  }

  /** @returns undefined if there is no such key, or it was deleted. */
  async find(reference: KeyReference): Promise<KeyRecord | undefined> {
    const [key] = await this.#read({ references: [reference] });
    if (key !== undefined) this.#parts.operator.checkKey("/key/info", key);
    return key;
  }

  /**
   * Changes the fields that are present.
   *
   * @throws GatewayError `invalid_request`, `not_found`, `already_exists`, `conflict`.
   */
  async update(reference: KeyReference, asked: KeyUpdate): Promise<KeyRecord> {
    const fields = this.#check(asked);
    const current = await this.#getFor("/key/update", reference);
    this.#checkChange(current, fields);
    this.#checkTemp({ ...current, ...fields }, asked.names);
    const { keyId } = current;
    try {
      return await this.#write(keyId, fields, asked);
    } catch (error) {
      throw taken(error, asked.names);
    }
  }

  /**
   * Gives a key another secret. Everything else goes on: its id, alias, budgets, what it has spent.
   *
   * @returns the key, and the new secret.
   * @throws GatewayError as `update`.
   */
  async rotate(reference: KeyReference, asked: KeyRotation): Promise<{ key: KeyRecord; secret: string }> {
    const fields = this.#check(asked);
    const graceMs = graceOf(asked);
    const secret = asked.secret ?? newSecret();
    const current = await this.#getFor("/key/regenerate", reference);
    this.#checkChange(current, fields);
    this.#checkTemp({ ...current, ...fields }, asked.names);
    const { keyId } = current;
    const nowMs = this.#parts.clock.nowMs();
    const endsAtMs = graceMs === undefined ? undefined : nowMs + graceMs;
    const replace = async (client: Queryable) => {
      const stored = this.#stored(secret);
      await refuseFormerSecret(client, stored, { nowMs, param: asked.names.secret });
      await replaceSecret(client, keyId, stored, { nowMs, endsAtMs });
    };
    try {
      return { key: await this.#write(keyId, fields, asked, replace), secret };
    } catch (error) {
      throw taken(error, asked.names);
    }
  }

  /**
   * Gives a key that rotates by itself another secret; the one of before works on until somebody says when it ends.
   *
   * @param rotationCount how often it had rotated when it was due.
   * @param keep keeps the new secret, in the same transaction.
   * @throws GatewayError `conflict` if it has rotated meanwhile, `not_found`.
   */
  async rotateUndelivered(
    keyId: string,
    rotationCount: number,
    keep: (client: Queryable, secret: string) => Promise<void>,
  ): Promise<void> {
    const secret = newSecret();
    const nowMs = this.#parts.clock.nowMs();
    await this.#write(keyId, {}, undefined, async (client) => {
      if ((await this.#reread(client, keyId)).rotationCount !== rotationCount) changedMeanwhile();
      await replaceSecret(client, keyId, this.#stored(secret), { nowMs, endsAtMs: untilDeliveredMs });
      await keep(client, secret);
    });
  }

  /**
   * Sets back what a key's budgets count as used in their current periods. What was booked stays booked, and what pods have borrowed
   * stays reserved.
   *
   * @param resetTo from nothing to what the main budget has used.
   * @param name what the caller's face calls that.
   * @returns also what it had used before.
   * @throws GatewayError `invalid_request`, `not_found`.
   */
  async resetSpend(
    reference: KeyReference,
    resetTo: Nanos,
    name: string,
  ): Promise<{ key: KeyRecord; previous: Nanos }> {
    checkBudget(resetTo, name);
    const { keyId } = await this.#getFor("/key/reset_spend", reference);
    return inBooks(this.#parts.postgres, async (client) => {
      const version = await bumpRevision(client, { scope: "key", id: keyId });
      const { maxBudget } = await this.#reread(client, keyId);
      const previous = await forgiveSpend(client, { scope: "key", ids: [keyId] }, resetTo, this.#asOf());
      if (resetTo > previous) throw invalid(name, `must be at most what was spent, ${formatUsd(previous)}.`);
      if (maxBudget !== null && resetTo > maxBudget) {
        throw invalid(name, `must be at most the key's budget, ${formatUsd(maxBudget)}.`);
      }
      await updateKey(client, { keyId, fields: {}, nowMs: this.#parts.clock.nowMs(), version });
      return { key: await this.#reread(client, keyId), previous };
    });
  }

  /** Refuses a key's calls, or lets it work again. @throws GatewayError `not_found`. */
  async setBlocked(reference: KeyReference, blocked: boolean): Promise<KeyRecord> {
    const { keyId } = await this.#getFor("/key/block", reference);
    return this.#write(keyId, { blocked });
  }

  /** Ends keys for good, all or none. Their rows and their spend stay. Passes over those that are deleted already. */
  async delete(keyIds: Iterable<string>): Promise<void> {
    const { operator } = this.#parts;
    const now = new Date(this.#parts.clock.nowMs());
    await this.#parts.postgres.transaction(async (client) => {
      for (const keyId of new Set(keyIds)) {
        const version = await bumpRevision(client, { scope: "key", id: keyId });
        if (!operator.isAdmin) operator.checkKey("/key/delete", await this.#reread(client, keyId));
        await forgetSecrets(client, keyId);
        await client.query(
          `UPDATE keys SET deleted_at = $2, updated_at = $2, version = $3 WHERE key_id = $1 AND deleted_at IS NULL`,
          [keyId, now, version],
        );
      }
    });
  }

  /** Keys by age, newest first, up to `limit`; with `after`, those beyond that place. */
  async listAfter(filter: KeyFilter, after: KeyPlace | undefined, limit: number): Promise<KeyRecord[]> {
    return this.#read(filter, { after, limit, offset: 0 });
  }

  /** Keys by number of page, from 1; without an order by age, newest first. */
  async listPage(filter: KeyFilter, page: number, size: number, order?: KeyOrder): Promise<KeyRecord[]> {
    return this.#read(filter, { after: undefined, limit: size, offset: (page - 1) * size, order });
  }

  /** The aliases of keys that have one, by the alphabet; those that come after one, and so many. */
  async listAliases(filter: KeyFilter, page?: { readonly after: string; readonly limit: number }): Promise<string[]> {
    const { where, values } = selectKeys({ ...filter, sight: this.#parts.operator.sight }, this.#now());
    const [after, limit] = [`$${values.length + 1}`, `$${values.length + 2}`];
    const sql = `SELECT k.alias FROM keys k ${where} AND k.alias > ${after} ORDER BY k.alias LIMIT ${limit}`;
    const rows = this.#parts.postgres.query<{ alias: string }>(sql, [
      ...values,
      page?.after ?? "",
      page?.limit ?? null,
    ]);
    return (await rows).map(({ alias }) => alias);
  }

  /** How many keys a filter finds. */
  async count(filter: KeyFilter): Promise<number> {
    const { where, values } = selectKeys({ ...filter, sight: this.#parts.operator.sight }, this.#now());
    const sql = `SELECT count(*) AS count FROM keys k ${where}`;
    const [row] = await this.#parts.postgres.query<{ count: bigint }>(sql, values);
    return Number(row?.count ?? 0n);
  }

  /** Checks fields, holds them to the configuration's bounds, and makes `expiresAtMs` of `duration`. */
  #check(asked: { readonly change: KeyChange; readonly names: FieldNames }, isNew = false): Partial<KeyFields> {
    const { change, names } = asked;
    checkKeyChange(change, names);
    checkWindows(change, names);
    checkExtra(change.extra);
    const { keyRules, clock, operator } = this.#parts;
    operator.checkRoutes(change.allowedRoutes ?? []);
    const { duration, ...fields } = bounded(change, keyRules, { names, isNew, nowMs: clock.nowMs() });
    if (duration === undefined) return fields;
    const length = duration === null ? undefined : parseDuration(duration);
    const expiresAtMs = length === undefined ? null : clock.nowMs() + durationMs(length);
    checkTime(expiresAtMs, names.duration);
    return { ...fields, expiresAtMs };
  }

  #checkTemp(key: Partial<KeyFields>, names: FieldNames): void {
    checkTempBound(key, this.#parts.keyRules, { names, nowMs: this.#parts.clock.nowMs() });
  }

  /** A key of somebody who is no administrator is his own unless it says whose it is. */
  #owned(fields: KeyChange): KeyChange {
    const { operator } = this.#parts;
    if (operator.isAdmin) return fields;
    const owned = { ...fields, userId: fields.userId ?? (fields.teamId ? fields.userId : operator.userId) ?? null };
    const { userId, teamId = null, organizationId = null } = owned;
    operator.checkKeyTarget({ userId, teamId, organizationId });
    return owned;
  }

  #checkRotation({ extra }: Partial<KeyFields>, current: KeyRecord | undefined): void {
    checkAutoRotation(extra, current?.extra, this.#parts.deliversSecrets === true);
  }

  /** Whoever moves a key must be allowed to make it where it goes; and who may not unblock it cannot do so by changing it. */
  #checkChange(current: KeyRecord, fields: Partial<KeyFields>): void {
    this.#checkRotation(fields, current);
    if ((fields.blocked ?? current.blocked) !== current.blocked) this.#parts.operator.checkKey("/key/block", current);
    const { userId = current.userId, teamId = current.teamId, organizationId = current.organizationId } = fields;
    const isMoved = userId !== current.userId || teamId !== current.teamId || organizationId !== current.organizationId;
    if (isMoved) this.#parts.operator.checkKeyTarget({ userId, teamId, organizationId });
  }

  #insert(asked: NewKey, fields: Partial<KeyFields>, secret: string): Promise<KeyRecord> {
    const { clock, postgres } = this.#parts;
    const keyId = newKeyId();
    const nowMs = clock.nowMs();
    const stored = this.#stored(secret);
    const windows = windowsOf({ budgetLimits: [], budgetDuration: null, metadata: {}, ...fields }, asked.names);
    return postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: "key", id: keyId });
      await refuseFormerSecret(client, stored, { nowMs, param: asked.names.secret });
      await requireTeam(client, fields.teamId, asked.names);
      await insertKey(client, {
        ...stored,
        keyId,
        createdBy: this.#parts.operator.name,
        requestId: asked.requestId,
        ...{ fields, windows },
        nowMs,
        version,
      });
      return this.#reread(client, keyId);
    });
  }

  /** @param further what else is to be done in the same transaction. */
  #write(
    keyId: string,
    fields: Partial<KeyFields>,
    asked?: Pick<KeyUpdate, "etag" | "names">,
    further?: (client: Queryable) => Promise<void>,
  ): Promise<KeyRecord> {
    const { clock, postgres } = this.#parts;
    return postgres.transaction(async (client) => {
      const version = await bumpRevision(client, { scope: "key", id: keyId });
      const current = await this.#reread(client, keyId);
      requireEtag(asked?.etag, etagOf(current));
      if (asked !== undefined && fields.teamId !== current.teamId)
        await requireTeam(client, fields.teamId, asked.names);
      const windows = asked && windowsOf({ ...current, ...fields }, asked.names);
      await updateKey(client, { keyId, fields, windows, nowMs: clock.nowMs(), version });
      await further?.(client);
      return this.#reread(client, keyId);
    });
  }

  /** A key that may have been deleted since it was found. */
  async #reread(client: Queryable, keyId: string): Promise<KeyRecord> {
    const selection = { where: "WHERE k.key_id = $1 AND k.deleted_at IS NULL", values: [keyId] };
    const [key] = await readKeys(client, selection, this.#asOf());
    return key ?? noSuchKey();
  }

  async #createdBefore(requestId: string | undefined): Promise<KeyRecord | undefined> {
    if (requestId === undefined) return undefined;
    const selection = { where: "WHERE k.create_request_id = $1", values: [requestId] };
    const [key] = await readKeys(this.#parts.postgres, selection, this.#asOf());
    if (key !== undefined) this.#parts.operator.checkKey("/key/info", key);
    return key;
  }

  #read(
    filter: KeyFilter,
    page: { after: KeyPlace | undefined; limit: number; offset: number; order?: KeyOrder | undefined } = {
      ...{ after: undefined, limit: 1, offset: 0 },
    },
  ): Promise<KeyRecord[]> {
    // A single key that is asked for and not to be seen is refused by whoever asks, not passed over.
    const sight =
      filter.references === undefined || filter.references.length === 0 ? this.#parts.operator.sight : undefined;
    const { where, values } = selectKeys({ ...filter, sight }, this.#now(), page.after);
    const limits = `LIMIT $${values.length + 1} OFFSET $${values.length + 2}`;
    const selection = {
      where: `${where} ${page.order === undefined ? newestFirst : sortedBy(page.order)} ${limits}`,
      values: [...values, page.limit, page.offset],
    };
    return readKeys(this.#parts.postgres, selection, this.#asOf());
  }

  #stored(secret: string): StoredSecret {
    if (isDigest(secret)) this.#parts.operator.checkAccess("admin"); // Others have not shown that it is theirs.
    return storedSecret(secret, this.#parts.pepper);
  }

  #now(): { pepper: Pepper; nowMs: number } {
    return { pepper: this.#parts.pepper, nowMs: this.#parts.clock.nowMs() };
  }

  #asOf(): AsOf {
    return { nowMs: this.#parts.clock.nowMs(), timeZone: this.#parts.timeZone };
  }
}
