import type { RedisAddress } from "./redis-address.ts";

/** Whom an answer is kept for besides the key it was made for: every key that may use the model, those of its team, or none. */
type CacheSharing = "all" | "team" | "key";

/** How answers are kept, to be given again. */
export interface AnswerCacheConfig {
  /** Where; undefined: in the memory of each pod. */
  readonly redis: RedisAddress | undefined;
  readonly ttlMs: number;
  /** Sets answers apart from those of others in the same Redis; "" for none. */
  readonly namespace: string;
  /** Whether calls use it that say nothing of it. */
  readonly isDefaultOn: boolean;
  /** The only calls whose answers are kept: those by OpenAI's responses, or by anything else. Absent: all. */
  readonly keepsOnly?: "responses" | "chat";
  readonly sharing: CacheSharing;
}
