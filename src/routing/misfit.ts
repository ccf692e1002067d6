import { GatewayError } from "../errors.ts";
import type { Exclusion, ExclusionReason } from "./candidate.ts";

/** What no waiting changes, in the order of what a caller is told: another model may take a call that is too long for this one. */
const misfits: readonly ExclusionReason[] = ["context_window", "unsupported", "region", "tags"];

/**
 * What to tell a caller whose call fits none of a model's deployments.
 *
 * @param excluded all of them.
 * @returns undefined if one of them fits and is only not free or not well.
 */
export function misfitError(model: string, excluded: readonly Exclusion[]): GatewayError | undefined {
  if (!excluded.every(({ reason }) => misfits.includes(reason))) return undefined;
  const reason = misfits.find((each) => excluded.some((exclusion) => exclusion.reason === each));
  const details = [...new Set(excluded.filter((each) => each.reason === reason).map(({ detail }) => detail))].join(
    "; ",
  );
  switch (reason) {
    case undefined:
      return undefined;
    case "context_window":
      return new GatewayError("context_length_exceeded", `The conversation is too long for ${model}: ${details}.`, {
        param: "messages",
      });
    case "unsupported":
      return new GatewayError("invalid_request", `${model} cannot take this call: it ${details}.`);
    case "region":
      return new GatewayError("region_not_allowed", `${model} has no deployment for this call: ${details}.`, {
        param: "user",
        metadata: { model },
      });
    default:
      return new GatewayError(
        "model_not_allowed",
        `Not allowed to access model due to ${reason} configuration: ${model} has no deployment for this call.`,
        { metadata: { model } },
      );
  }
}
