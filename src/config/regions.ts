/** Where deployments answer: in a provider's region, or somewhere within an area of several. */

import type { Deployment } from "./config.ts";

const words = (text: string): ReadonlySet<string> => new Set(text.split(/\s+/));

/**
 * What operators say in place of regions, and which are within: of AWS, of Google, of Azure. "eu" is the European Union: London and
 * Zurich are not in it.
 */
const areas: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  [
    "eu",
    words(
      `eu-central-1 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-3 eusc-de-east-1
       europe-central2 europe-north1 europe-north2 europe-southwest1 europe-west1 europe-west3 europe-west4 europe-west8 europe-west9
       europe-west10 europe-west12
       austriaeast belgiumcentral denmarkeast francecentral francesouth germanynorth germanywestcentral italynorth northeurope
       polandcentral spaincentral swedencentral swedensouth westeurope`,
    ),
  ],
  [
    "us",
    words(
      `us-east-1 us-east-2 us-west-1 us-west-2 us-gov us-gov-east-1 us-gov-west-1
       us-central1 us-central2 us-east1 us-east4 us-east5 us-east7 us-south1 us-west1 us-west2 us-west3 us-west4 us-west8
       centralus eastus eastus2 eastus3 northcentralus southcentralus westcentralus westus westus2 westus3 usgovarizona usgovtexas
       usgovvirginia`,
    ),
  ],
]);

/** What a region must look like, however it is spelled. */
export const regionForm = /^[a-z][a-z0-9-]{1,63}$/;

/** A region in the spelling that it is compared in: Azure's "Sweden Central" is `swedencentral`. */
export function regionNamed(text: string): string {
  return text.replaceAll(/\s/g, "").toLowerCase();
}

/** Whether it is an area, and no provider's region. */
export function isArea(region: string): boolean {
  return areas.has(regionNamed(region));
}

/**
 * Whether what answers in a region answers in another, or in an area.
 *
 * @param region undefined: nobody knows where it answers, which is in no place that can be promised.
 */
export function isWithin(region: string | undefined, place: string): boolean {
  return region !== undefined && (region === place || areas.get(place)?.has(region) === true);
}

/**
 * Where a deployment answers: as its operator says, else where its cloud is called. An operator's region of AWS only says where it is
 * called; its model may be a profile that spreads calls over several.
 *
 * @param said `region_name`.
 * @returns undefined if nobody knows.
 */
export function regionOf(
  said: string | undefined,
  { model, access }: Pick<Deployment, "model" | "access">,
): string | undefined {
  const region = said === undefined ? undefined : regionNamed(said);
  if (access?.cloud === "aws")
    return region !== undefined && isArea(region) ? region : regionAtAws(model, access.region);
  return region ?? (access?.cloud === "google" ? access.location : undefined);
}

/** The same for a model behind a `*`. @param wildcard the deployment with the `*`, where that is known of it. */
export function regionBehindWildcard(wildcard: Deployment, model: string): string | undefined {
  const { access, region } = wildcard;
  // What an operator says himself holds for every model behind it.
  return access?.cloud === "aws" && region === access.region ? regionAtAws(model, access.region) : region;
}

/** Inference profiles answer anywhere within what their first word says ("eu.anthropic..."); those of one's own do not say where. */
function regionAtAws(model: string, calledAt: string): string | undefined {
  if (/:(application-inference-profile|(default-)?prompt-router)\//.test(model)) return undefined;
  const id = model.slice(model.lastIndexOf("/") + 1);
  return /^([a-z]{2}|us-gov|apac|global)\.[a-z]/.exec(id)?.[1] ?? calledAt;
}
