/** Sums over the spend log by day, kept equal to it: they change in the transactions that write its rows. */

import type { Nanos } from "../money.ts";
import { arrayText } from "./array-text.ts";
import type { Queryable } from "./postgres.ts";

/** Whom a row of the spend log was booked for. */
export interface Owner {
  readonly key_id: string;
  readonly team_id: string;
  readonly user_id: string;
  readonly organization_id: string;
}

/** What else of such a row the sums are made of. */
export interface BookedSpend {
  readonly attempt: number;
  readonly cost: Nanos;
  readonly status: string;
  readonly modelGroup: string;
  readonly model: string;
  readonly provider: string;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly cacheReadInputTokens: bigint;
  readonly cacheWriteInputTokens: bigint;
  readonly startedAt: Date;
  readonly endedAt: Date | undefined;
  readonly endUser: string;
  readonly tags: readonly string[];
}

/** A row of the spend log. `day`: of the configured time zone, as the database has it: YYYY-MM-DD. */
export interface Booked {
  readonly owner: Owner;
  readonly day: string;
  readonly spend: BookedSpend;
}

/** SQL for the day of a row of spend_log. `timeZone`: a parameter, "$1" for instance: the IANA name of the zone. */
export function bookedDay(timeZone: string): string {
  return `(started_at AT TIME ZONE ${timeZone})::date::text AS day`;
}

const places = ["day", "key_id", "team_id", "user_id", "organization_id", "model_group", "model", "provider"];
const amounts = [
  ...["cost_nanos", "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"],
  ...["successes", "failures", "answer_ms"],
];

/** Rows of one table of sums: where each is, and its amounts, both in the order of the columns. */
class Sums {
  readonly #table: string;
  readonly #places: readonly string[];
  readonly #rows = new Map<string, { readonly at: readonly string[]; readonly amounts: bigint[] }>();

  constructor(table: string, columns: readonly string[]) {
    this.#table = table;
    this.#places = columns;
  }

  add(at: readonly string[], added: readonly bigint[]): void {
    // No text in the database has a NUL.
    const name = at.join("\0");
    const row = this.#rows.get(name);
    if (row === undefined) this.#rows.set(name, { at, amounts: [...added] });
    else for (const [index, amount] of added.entries()) row.amounts[index] = (row.amounts[index] ?? 0n) + amount;
  }

  /** Adds to the table. Sorted by the database, so that all take the rows' locks in one order. */
  async write(client: Queryable): Promise<void> {
    if (this.#rows.size === 0) return;
    const rows = [...this.#rows.values()];
    const values = [
      ...this.#places.map((_, index) => arrayText(rows.map(({ at }) => at[index] ?? null))),
      ...amounts.map((_, index) => arrayText(rows.map((row) => row.amounts[index] ?? null))),
    ];
    await client.query(upsert(this.#table, this.#places), values, this.#table);
  }
}

function upsert(table: string, columns: readonly string[]): string {
  const key = columns.join(", ");
  const all = [...columns, ...amounts].join(", ");
  const types = [...columns.map((name) => (name === "day" ? "date" : "text")), ...amounts.map(() => "bigint")];
  const lists = types.map((type, index) => `$${index + 1}::${type}[]`).join(", ");
  const added = amounts.map((name) => `${name} = ${table}.${name} + excluded.${name}`).join(", ");
  return `INSERT INTO ${table} (${all}) SELECT ${all} FROM unnest(${lists}) AS d (${all})
    ORDER BY ${key} ON CONFLICT (${key}) DO UPDATE SET ${added}`;
}

/** Adds rows of the spend log to the sums. The last thing a transaction does: everybody waits here for everybody. */
export async function addToDays(client: Queryable, rows: readonly Booked[]): Promise<void> {
  const days = new Sums("daily_spend", places);
  const parties = new Sums("daily_party_spend", ["scope", "scope_id", ...places]);
  for (const { owner, day, spend } of rows) {
    const { key_id, team_id, user_id, organization_id } = owner;
    const at = [day, key_id, team_id, user_id, organization_id, spend.modelGroup, spend.model, spend.provider];
    const added = amountsOf(spend);
    days.add(at, added);
    if (spend.endUser !== "") parties.add(["end_user", spend.endUser, ...at], added);
    for (const tag of new Set(spend.tags)) parties.add(["tag", tag, ...at], added);
  }
  await days.write(client);
  await parties.write(client);
}

/** In the order of `amounts`. */
function amountsOf(spend: BookedSpend): bigint[] {
  const { cost, inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens } = spend;
  const isAttempt = spend.attempt > 0;
  const isSuccess = spend.status === "success";
  return [
    ...[cost, inputTokens, outputTokens, cacheReadInputTokens, cacheWriteInputTokens],
    ...[isAttempt && isSuccess ? 1n : 0n, isAttempt && !isSuccess ? 1n : 0n, answerMs(spend)],
  ];
}

/** Of an attempt that wrote tokens, what it took: by the tokens it wrote, that is what a token takes. */
function answerMs({ outputTokens, startedAt, endedAt }: BookedSpend): bigint {
  if (outputTokens === 0n || endedAt === undefined) return 0n;
  return BigInt(Math.max(0, endedAt.getTime() - startedAt.getTime()));
}
