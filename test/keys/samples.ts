import { randomUUID } from "node:crypto";
import type { Grant, Payer, SpendRecord } from "../../src/keys/authority.ts";
import type { OpenRecord } from "../../src/keys/journal-line.ts";
import type { Nanos } from "../../src/money.ts";
import type { Telemetry } from "../../src/telemetry/telemetry.ts";

/** A payer with one budget, its key's. */
export function samplePayer(keyId: string, max: Nanos | undefined): Payer {
  const budget = { budgetId: keyId, scope: "key", scopeId: keyId, window: undefined, max } as const;
  return { id: keyId, keyId, limits: [], budgets: [budget], extraBudgetIds: [] };
}

/** A grant with one budget. */
export function sampleGrant(keyId: string, max: Nanos | undefined): Grant {
  return {
    keyId,
    keyAlias: undefined,
    userId: undefined,
    teamId: undefined,
    organizationId: undefined,
    models: [],
    aliases: new Map(),
    rules: [],
    payer: samplePayer(keyId, max),
    modelBudgets: [],
    modelLimits: [],
    partyScopes: [],
    expiresAtMs: undefined,
    blocked: false,
    version: 1n,
    tags: [],
  };
}

/** An attempt about to begin. */
export function sampleOpen(facts: Partial<OpenRecord> = {}): OpenRecord {
  return {
    callId: randomUUID(),
    attempt: 1,
    keyId: "key_1",
    leaseId: "",
    reserved: 1_000n,
    modelGroup: "gpt",
    model: "gpt-5",
    provider: "openai",
    deploymentId: "d1",
    startedAtMs: 1_800_000_000_000,
    priceVersion: "v1",
    endUser: "",
    tags: ["a", "b\nc"],
    traceId: "",
    operation: "chat",
    budgetIds: [],
    ...facts,
  };
}

/** How it ended. */
export function sampleSettled(open: OpenRecord, facts: Partial<SpendRecord> = {}): SpendRecord {
  return {
    ...open,
    cost: 700n,
    status: "success",
    usageEstimated: false,
    inputTokens: 3,
    outputTokens: 4,
    cacheReadInputTokens: 0,
    cacheWriteInputTokens: 0,
    reasoningOutputTokens: 0,
    endedAtMs: 1_800_000_001_000,
    firstOutputAtMs: undefined,
    providerResponseId: "resp",
    cacheHit: false,
    ...facts,
  };
}

/** Log lines, to look at. */
export class Log implements Pick<Telemetry, "log"> {
  readonly lines: { level: string; message: string; facts: Readonly<Record<string, unknown>> | undefined }[] = [];

  log(level: string, message: string, facts?: Readonly<Record<string, unknown>>): void {
    this.lines.push({ level, message, facts });
  }

  count(level: string): number {
    return this.lines.filter((line) => line.level === level).length;
  }
}
