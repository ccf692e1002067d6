/** Reasoning that its provider wants back, in the `encrypted_content` of a responses item: what it is, and what proves it. */

import type { JsonObject } from "../completion.ts";
import type { Thinking } from "./gathered-choice.ts";
import { arrayOf, objectOf, textOf } from "./json.ts";

const [signed, redacted] = ["tollgate.signature:", "tollgate.redacted:"];

/** @returns undefined for reasoning that nothing proves. */
export function encryptedContent({ signature, redactedReasoning }: Thinking): string | undefined {
  if (redactedReasoning !== undefined) return redacted + redactedReasoning;
  return signature === undefined ? undefined : signed + signature;
}

/** A reasoning item as the blocks of the neutral form. What another gateway or provider has encrypted nobody here can read. */
export function readThinking(item: JsonObject): JsonObject[] {
  const content = textOf(item.encrypted_content) ?? "";
  if (content.startsWith(redacted)) return [{ type: "redacted_thinking", data: content.slice(redacted.length) }];
  if (!content.startsWith(signed)) return [];
  const texts = arrayOf(item.summary).map((part) => textOf(objectOf(part)?.text) ?? "");
  return [{ type: "thinking", thinking: texts.join(""), signature: content.slice(signed.length) }];
}
