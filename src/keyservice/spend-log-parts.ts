import type { Clock } from "../clock.ts";
import type { Postgres, Queryable } from "./postgres.ts";

/** What SpendLogParts is made of. */
export interface SpendLogPartsParts {
  readonly postgres: Postgres;
  readonly clock: Clock;
  /** How long rows are kept, in milliseconds; undefined: for ever. */
  readonly retentionMs: number | undefined;
}

/** Parts are there for this month and so many after it, so that none is missing should nobody make one for weeks. */
const monthsAhead = 2;
const nameForm = /^spend_log_(\d{4})_(\d{2})$/;
/** Rows of the default part that are removed at once. */
const rowsMax = 5_000;
/** Any number will do, as long as nobody else uses it on this database. */
const lockKey = "4017002";

/** A month of the spend log, by UTC. */
interface Month {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/**
 * The spend log's parts: one for each month in which call ids were made. What is older than the retention goes a whole part at a time,
 * in no time; the sums by day stay. Every replica may do this at once.
 */
export class SpendLogParts {
  readonly #parts: SpendLogPartsParts;

  constructor(parts: SpendLogPartsParts) {
    this.#parts = parts;
  }

  /** Makes the parts that are missing. */
  async make(): Promise<void> {
    const { postgres, clock } = this.#parts;
    const now = new Date(clock.nowMs());
    const months = Array.from({ length: monthsAhead + 1 }, (_, ahead) =>
      monthOf(now.getUTCFullYear(), now.getUTCMonth() + ahead),
    );
    const known = new Set(await partNames(postgres));
    for (const month of months) {
      if (!known.has(month.name)) await postgres.transaction((client) => makeOne(client, month));
    }
  }

  /** Drops what is old enough. */
  async drop(): Promise<void> {
    const { postgres, clock, retentionMs } = this.#parts;
    if (retentionMs === undefined) return;
    const cutoffMs = clock.nowMs() - retentionMs;
    for (const name of await partNames(postgres)) {
      const [, year, month] = nameForm.exec(name) ?? [];
      if (year === undefined || monthOf(Number(year), Number(month) - 1).endMs > cutoffMs) continue;
      await postgres.transaction(async (client) => {
        await waitBriefly(client);
        await client.query(`DROP TABLE IF EXISTS ${name}`);
      });
    }
    await postgres.query(
      `DELETE FROM spend_log_default WHERE (call_id, attempt) IN (
         SELECT call_id, attempt FROM spend_log_default WHERE booked_at < $1 ORDER BY booked_at LIMIT ${rowsMax})`,
      [new Date(cutoffMs)],
    );
  }
}

/** @param month from 0; may be 12 and more. */
function monthOf(year: number, month: number): Month {
  const startMs = Date.UTC(year, month);
  const name = new Date(startMs).toISOString().slice(0, 7).replace("-", "_");
  return { name: `spend_log_${name}`, startMs, endMs: Date.UTC(year, month + 1) };
}

async function partNames(client: Queryable): Promise<string[]> {
  const rows = await client.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'spend_log'::regclass ORDER BY 1`,
  );
  return rows.map(({ name }) => name).filter((name) => nameForm.test(name));
}

/** What is here already, of pods whose clocks are ahead or from before there were parts, moves into the part it belongs to. */
async function makeOne(client: Queryable, { name, startMs, endMs }: Month): Promise<void> {
  await waitBriefly(client);
  await client.query("SELECT pg_advisory_xact_lock($1)", [lockKey]);
  if ((await partNames(client)).includes(name)) return;
  // Nobody books meanwhile: what is on its way into the default part could not go there any more.
  await client.query("LOCK TABLE spend_log IN SHARE ROW EXCLUSIVE MODE");
  const [start, end] = [firstUuidOf(startMs), firstUuidOf(endMs)];
  await client.query(`CREATE TABLE ${name} (LIKE spend_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS)`);
  await client.query(
    `WITH moved AS (DELETE FROM spend_log_default WHERE call_id >= $1 AND call_id < $2 RETURNING *)
     INSERT INTO ${name} SELECT * FROM moved`,
    [start, end],
  );
  await client.query(`ALTER TABLE spend_log ATTACH PARTITION ${name} FOR VALUES FROM ('${start}') TO ('${end}')`);
}

/** Whoever wants a lock on a whole table holds up everybody behind them: not for long, rather later again. */
async function waitBriefly(client: Queryable): Promise<void> {
  await client.query("SET LOCAL lock_timeout = '2s'");
}

/** The lowest UUID of a moment: version 7 begins with the Unix time in milliseconds. */
function firstUuidOf(timeMs: number): string {
  const hex = timeMs.toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}
