import type { Operator } from "./operator.ts";
import type { Database, Queryable } from "./postgres.ts";

/** A database whose audit log names an operator for whatever these transactions change. */
export class SignedDatabase implements Database {
  readonly #database: Database;
  readonly #operator: Operator;

  constructor(parts: { database: Database; operator: Operator }) {
    this.#database = parts.database;
    this.#operator = parts.operator;
  }

  query: Database["query"] = (text, values, name) => this.#database.query(text, values, name);

  transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    const { name, keyId = "" } = this.#operator;
    return this.#database.transaction(async (client) => {
      await client.query(
        "SELECT set_config('tollgate.operator', $1, true), set_config('tollgate.operator_key_id', $2, true)",
        [name, keyId],
      );
      return work(client);
    });
  }
}

/** A transaction that is under way, as a database: what would be transactions of their own are parts of it. */
export class OneTransaction implements Database {
  readonly #client: Queryable;

  constructor(client: Queryable) {
    this.#client = client;
  }

  query: Database["query"] = (text, values, name) => this.#client.query(text, values, name);

  transaction<Result>(work: (client: Queryable) => Promise<Result>): Promise<Result> {
    return work(this.#client);
  }
}
