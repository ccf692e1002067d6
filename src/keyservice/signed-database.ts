import pg from "pg";
import { GatewayError } from "../errors.ts";
import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";

/** A character that is no text to PostgreSQL: NUL, as it is or escaped in JSON. */
const unstorable = new Set(["22021", "22P05"]);

/**
 * A database whose audit log names an operator for whatever these transactions change. What he sends as an id or a filter may be
 * text that PostgreSQL does not take at all: that is refused as his.
 */
export class SignedDatabase implements Database {
  readonly #database: Database;
  readonly #operator: Operator;

  constructor(parts: { database: Database; operator: Operator }) {
    this.#database = parts.database;
    this.#operator = parts.operator;
  }

  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[], name?: string): Promise<Row[]> {
    return this.#database.query<Row>(text, values, name).catch(refuse);
  }

  transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    const { name, keyId = "" } = this.#operator;
    const signed = this.#database.transaction(async (client) => {
      await client.query(
        "SELECT set_config('tollgate.operator', $1, true), set_config('tollgate.operator_key_id', $2, true)",
        [name, keyId],
      );
      return work(client);
    });
    return signed.catch(refuse);
  }
}

/** @throws GatewayError `invalid_request`, or what it is given. */
function refuse(error: unknown): never {
  if (!(error instanceof pg.DatabaseError) || !unstorable.has(error.code ?? "")) throw error;
  throw new GatewayError("invalid_request", "A text in the request holds a NUL character. Take it out.", {
    cause: error,
  });
}
