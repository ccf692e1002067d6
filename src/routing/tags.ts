import type { Deployment, RouterConfig } from "../config/config.ts";
import type { Filter } from "./candidate.ts";

/** Marks deployments for calls that no other one is for. */
const defaultTag = "default";

/**
 * Leaves the deployments that have a call's tags: one of them, or all. Calls without tags, and those whose tags no deployment has,
 * are for the deployments tagged `default`; where there are none of these, calls without tags may go anywhere and the others
 * nowhere. Whether a deployment is well does not matter here, so that an outage sends no call where it must not go.
 */
export function tagFilter({ matchAny }: NonNullable<RouterConfig["tagRouting"]>): Filter {
  return (deployments, { tags }) => {
    const fits = (deployment: Deployment) => {
      const has = (tag: string) => deployment.tags?.includes(tag) ?? false;
      return tags.length > 0 && (matchAny ? tags.some(has) : tags.every(has));
    };
    const isDefault = ({ tags: own }: Deployment) => own?.includes(defaultTag) ?? false;
    const isLeft = deployments.some(fits) ? fits : isDefault;
    if (tags.length === 0 && !deployments.some(isDefault)) return [];
    const detail =
      tags.length === 0 ? "calls without tags go to others" : `not for calls with the tags ${tags.join(", ")}`;
    return deployments
      .filter((deployment) => !isLeft(deployment))
      .map((deployment) => ({ deployment, reason: "tags", detail }));
  };
}
