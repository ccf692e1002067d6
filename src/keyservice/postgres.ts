import pg from "pg";
import { type ClientSpan, clientSpan } from "../active-span.ts";
import type { Clock, Random } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { Secret } from "../secret.ts";

/** Something that runs SQL: the pool, or one transaction. `Row` is what the caller knows the statement to return. */
export interface Queryable {
  /**
   * `name`: the statement is planned once a connection, under this name; worth it for one that is asked often and takes longer to plan
   * than to run.
   *
   * @throws whatever the database says; see Postgres for what becomes of it.
   */
  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[], name?: string): Promise<Row[]>;
}

/** What runs whole transactions too. */
export interface Database extends Queryable {
  /** See Postgres. */
  transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result>;
}

/** What a Postgres is made of. */
export interface PostgresParts {
  readonly databaseUrl: Secret;
  readonly clock: Clock;
  readonly random: Random;
  /** Told when an idle connection breaks. The pool replaces it. */
  readonly onConnectionLost: (error: Error) => void;
  /** The most connections at a time. Default 10. */
  readonly connectionsMax?: number;
}

/** How long one statement may run, in milliseconds: with none slower than this, nobody waits longer for a row's lock. */
const statementTimeoutMs = 10_000;
/** How long to wait for a connection, queueing for a free one included, in milliseconds. */
const connectTimeoutMs = 10_000;
/** How often a transaction is tried when others get in its way. */
const attemptsMax = 10;
/** So much of a statement is in its span. */
const queryCharsMax = 1_000;
/** Transactions that lost against others: serialization failure, deadlock. */
const lostAgainstOthers = new Set(["40001", "40P01"]);

/**
 * The database. int8 comes as bigint.
 *
 * Its methods throw GatewayError keyservice_unavailable when the database cannot be reached or is not ready, and else what
 * the database says.
 */
export class Postgres implements Database {
  readonly #pool: pg.Pool;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(parts: PostgresParts) {
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#pool = new pg.Pool({
      // Each connection is made with the password, and the certificates, as they are by then.
      Client: class extends pg.Client {
        constructor() {
          super({
            ...connectionConfig(parts.databaseUrl),
            statement_timeout: statementTimeoutMs,
            idle_in_transaction_session_timeout: statementTimeoutMs,
          });
        }
      },
      // The pool's own: how long somebody waits for a free one.
      connectionTimeoutMillis: connectTimeoutMs,
      max: parts.connectionsMax ?? 10,
    });
    // Without a listener, a connection that breaks while idle would end the process.
    this.#pool.on("error", (error) => parts.onConnectionLost(error));
  }

  /** The pool's connections by what they do, and how many callers wait for one. */
  get connections(): { readonly busy: number; readonly idle: number; readonly waiting: number } {
    const { totalCount, idleCount: idle, waitingCount: waiting } = this.#pool;
    return { busy: totalCount - idle, idle, waiting };
  }

  /**
   * The same for somebody who waits until `signal` aborts. What has no connection by then is not begun: when more is asked than can be
   * done, answers that nobody waits for any more must not keep the others from being in time.
   */
  until(signal: AbortSignal): Database {
    return {
      query: (text, values, name) => this.#query(signal, text, values, name),
      transaction: (work) => this.#transaction(work, signal),
    };
  }

  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[], name?: string): Promise<Row[]> {
    return this.#query(undefined, text, values, name);
  }

  #query<Row extends pg.QueryResultRow>(
    signal: AbortSignal | undefined,
    ...question: [text: string, values: readonly unknown[] | undefined, name: string | undefined]
  ): Promise<Row[]> {
    const [text, , name] = question;
    return traced(querySpan(text, name), async () => {
      try {
        return await this.#with(signal, (client) => client.query<Row>(...question));
      } catch (error) {
        throw translate(error);
      }
    });
  }

  /**
   * Runs `work` in one READ COMMITTED transaction and commits it. Run again, a few times, when it loses against others, so
   * `work` must have no other effects.
   */
  transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return this.#transaction(work, undefined);
  }

  #transaction<Result>(work: (client: Queryable) => Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
    const span = clientSpan("transaction", { "db.system.name": "postgresql", "db.operation.name": "BEGIN" });
    let statements = 0;
    const counted = (client: Queryable) =>
      work({
        query: (text, values, name) => {
          statements += 1;
          return client.query(text, values, name);
        },
      });
    return traced(span, async () => {
      for (let attempt = 1; ; attempt++) {
        try {
          return await this.#attempt(span === undefined ? work : counted, signal);
        } catch (error) {
          if (attempt === attemptsMax || !lostAgainstOthers.has(sqlState(error))) throw translate(error);
          await this.#pause(this.#random() * 5 * 2 ** attempt);
        } finally {
          span?.annotate({ "db.operation.batch.size": statements, "tollgate.db.attempts": attempt });
        }
      }
    });
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  /** @throws GatewayError keyservice_unavailable if `signal` has aborted by the time there is one. */
  async #connect(signal: AbortSignal | undefined): Promise<pg.PoolClient> {
    const client = await this.#pool.connect();
    if (signal?.aborted !== true) return client;
    client.release();
    throw new GatewayError("keyservice_unavailable", "The books were busy until the caller had stopped waiting.");
  }

  #attempt<Result>(work: (client: Queryable) => Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
    return this.#with(signal, async (client, onBroken) => {
      try {
        await client.query("BEGIN ISOLATION LEVEL READ COMMITTED");
        const result = await work(client);
        await client.query("COMMIT");
        return result;
      } catch (error) {
        await client.query("ROLLBACK").catch(onBroken);
        throw error;
      }
    });
  }

  /** Works on a connection, which nobody else uses meanwhile. */
  async #with<Result>(
    signal: AbortSignal | undefined,
    work: (client: Queryable, onBroken: (error: Error) => void) => Promise<Result>,
  ): Promise<Result> {
    const client = await this.#connect(signal);
    let broken: Error | undefined;
    // A connection in use tells of its end to its own listeners, not to the pool's.
    const onBroken = (error: Error) => {
      broken ??= error;
    };
    client.on("error", onBroken);
    try {
      return await work(
        { query: async (text, values = [], name) => (await client.query(statement(text, values, name))).rows },
        onBroken,
      );
    } finally {
      client.off("error", onBroken);
      client.release(broken);
    }
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(delayMs, resolve);
    });
  }
}

/** What is asked of the database, without what it is asked about: values are never in the text. */
function querySpan(text: string, name: string | undefined): ClientSpan | undefined {
  const operation = /^\s*(\w+)/.exec(text)?.[1]?.toUpperCase() ?? "SQL";
  return clientSpan(operation, {
    ...{ "db.system.name": "postgresql", "db.operation.name": operation },
    ...(name !== undefined && { "db.query.summary": name }),
    "db.query.text": text.replace(/\s+/g, " ").trim().slice(0, queryCharsMax),
  });
}

/** What a transaction throws to be taken back and done in another way: no failure of the database's, nor of the work. */
export class TakenBack extends Error {}

async function traced<Result>(span: ClientSpan | undefined, work: () => Promise<Result>): Promise<Result> {
  if (span === undefined) return work();
  try {
    const result = await work();
    span.end();
    return result;
  } catch (error) {
    // Nor is a refusal one.
    const isTakenBack =
      error instanceof TakenBack || (error instanceof GatewayError && error.code !== "keyservice_unavailable");
    if (isTakenBack) span.annotate({ "tollgate.db.taken_back": true });
    span.end(isTakenBack ? undefined : error instanceof GatewayError ? error.code : sqlState(error) || "error");
    throw error;
  }
}

function statement(text: string, values: readonly unknown[], name: string | undefined): pg.QueryConfig {
  return { text, values: [...values], ...(name === undefined ? {} : { name }) };
}

/** A connection of its own, outside any pool: for LISTEN, and for the migrations' lock. Call `connect` and `end` yourself. */
export function createClient(databaseUrl: Secret): pg.Client {
  return new pg.Client(connectionConfig(databaseUrl));
}

/** The SQLSTATE of an error of the database, or "" if it is none. */
function sqlState(error: unknown): string {
  return error instanceof pg.DatabaseError ? (error.code ?? "") : "";
}

function connectionConfig(databaseUrl: Secret): pg.ClientConfig {
  return {
    connectionString: databaseUrl.reveal(),
    application_name: "tollgate-keyservice",
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    types: { getTypeParser },
  };
}

const int8 = 20;

function getTypeParser(oid: number, format?: "text" | "binary") {
  if (oid === int8 && format !== "binary") return BigInt;
  return pg.types.getTypeParser(oid, format);
}

/** Whether an error says that the database is away, starting, stopping, read-only, full or too slow: later it may do. */
export function isAway(error: unknown): boolean {
  const state = sqlState(error);
  return state === "" ? isConnectionFailure(error) : /^(?:08|53|57|58|25006|55P03|40001|40P01)/.test(state);
}

/** Says "not now" where the database is away, starting, stopping, read-only, full or too slow, and blames the caller for NULs. */
function translate(error: unknown): unknown {
  if (error instanceof GatewayError) return error;
  const state = sqlState(error);
  // Character not in repertoire, untranslatable character: something to look for that nothing stored can be.
  if (state === "22021" || state === "22P05") {
    const message = "A text has a NUL character, which no name and no id can have. Take it out.";
    return new GatewayError("invalid_request", message, { cause: error });
  }
  if (!isAway(error)) return error;
  return new GatewayError("keyservice_unavailable", "The KeyService cannot reach its books.", { cause: error });
}

function isConnectionFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // The driver's own failures have no code, only these texts.
  if (/^(?:Connection terminated|timeout e|Client (?:has|was)|Cannot use a pool)/.test(error.message)) return true;
  return "syscall" in error || error instanceof AggregateError;
}
