/** Why nothing was done to a key. */

import pg from "pg";
import { GatewayError } from "../errors.ts";
import { isUnknownTemplate, noSuchTemplate } from "./budget-templates.ts";
import type { FieldNames } from "./key-fields.ts";

/** @throws GatewayError `not_found`, always. */
export function noSuchKey(): never {
  throw new GatewayError(
    "not_found",
    "There is no such key, or it was deleted. List the keys to see which there are.",
    {
      param: "key",
    },
  );
}

/** @throws GatewayError `conflict`, always. */
export function changedMeanwhile(): never {
  throw new GatewayError("conflict", "The key was changed meanwhile. Get it again, and send its new etag.", {
    param: "etag",
  });
}

/** Says which name was taken, or which budget there is not, if that is what an error of the database says. */
export function taken(error: unknown, names: FieldNames): unknown {
  if (isUnknownTemplate(error)) return noSuchTemplate(names.budgetId);
  switch (violatedIndex(error)) {
    case "keys_alias":
      return new GatewayError("already_exists", `Another key has this \`${names.alias}\`. Choose another one.`, {
        param: names.alias,
      });
    case "keys_secret":
      return new GatewayError("already_exists", "A key with this secret exists already. Choose another one.", {
        param: names.secret,
      });
    default:
      return error;
  }
}

/** The unique index that a change would have broken. */
export function violatedIndex(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError && error.code === "23505" ? error.constraint : undefined;
}
