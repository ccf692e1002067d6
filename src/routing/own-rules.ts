import type { ByFailureClass, OwnRepeatRules, RepeatRules } from "../config/config.ts";

const none: ReadonlyMap<string, ByFailureClass> = new Map();

/** How the calls of a key are repeated: as it says itself, and where it says nothing, as configured. */
export function rulesFor(configured: RepeatRules, own: OwnRepeatRules | undefined): RepeatRules {
  if (own === undefined) return configured;
  const { ownRetries, retriesByGroup } = own;
  // A number of retries of its own is not overruled by configured policies either.
  const policies = ownRetries === undefined ? configured : { retriesByClass: {}, retriesByGroup: none };
  return {
    retries: configured.retries,
    ...(ownRetries !== undefined && { ownRetries }),
    retriesByClass: policies.retriesByClass,
    retriesByGroup: retriesByGroup ?? policies.retriesByGroup,
    fallbacks: own.fallbacks ?? configured.fallbacks,
    contextWindowFallbacks: own.contextWindowFallbacks ?? configured.contextWindowFallbacks,
    contentPolicyFallbacks: own.contentPolicyFallbacks ?? configured.contentPolicyFallbacks,
  };
}
