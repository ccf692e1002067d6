import type { JsonObject } from "@bufbuild/protobuf";
import { type Refusal, RefusalSchema } from "../../src/gen/tollgate/admin/v1/keys_pb.ts";
import type { Answer } from "./command.ts";
import { jsonOf } from "./message-json.ts";

/** What became of several changes, each made or refused for itself. */
export function batchAnswer(
  outcomes: readonly {
    readonly id: string;
    readonly done: JsonObject | undefined;
    readonly refusal?: Refusal | undefined;
  }[],
): Answer {
  const rows = outcomes.map(({ id, done, refusal }): JsonObject => {
    if (done !== undefined) return { id, done: true, now: done };
    return { id, done: false, ...(refusal && { refusal: jsonOf(RefusalSchema, refusal), why: refusal.message }) };
  });
  const columns = [
    ["ID", "id"],
    ["DONE", "done"],
    ["WHY NOT", "why"],
  ] as const;
  return { kind: "list", rows, columns, more: false, hasFailed: rows.some(({ done }) => done !== true) };
}
