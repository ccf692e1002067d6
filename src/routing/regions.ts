import { isWithin } from "../config/regions.ts";
import type { Check } from "./candidate.ts";

/** Passes over deployments that answer elsewhere than a call must be answered, or nobody knows where. */
export const regionCheck: Check = (deployment, { region: place }) => {
  if (place === undefined) return undefined;
  const { region } = deployment;
  if (isWithin(region, place)) return undefined;
  const where = region === undefined ? "nobody says where it answers (region_name)" : `it answers in ${region}`;
  return { deployment, reason: "region", detail: `the call must be answered in ${place}, and ${where}` };
};
