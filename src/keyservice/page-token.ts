/** Opaque tokens that say where the next page of a list begins. They fit only the filter they were made for. */

import { createHash } from "node:crypto";
import { GatewayError } from "../errors.ts";

/** Page sizes of gRPC lists. */
const pageSizeDefault = 100;
const pageSizeMax = 1000;

/** How many a page has: 0 means the default, too many means the most there are. */
export function pageSizeOf(asked: number): number {
  return asked <= 0 ? pageSizeDefault : Math.min(asked, pageSizeMax);
}

/**
 * @param filter what the list was asked for, page and size left out.
 * @param place of the last row of the page before.
 */
export function writePageToken(filter: readonly string[], place: readonly string[]): string {
  return Buffer.from(JSON.stringify([digestOf(filter), ...place])).toString("base64url");
}

/**
 * @param forms what each part of the place must look like.
 * @returns the place; undefined for "", which means the first page.
 * @throws GatewayError `invalid_request` if the token is none of ours or belongs to another filter.
 */
export function readPageToken<const Forms extends readonly RegExp[]>(
  token: string,
  filter: readonly string[],
  forms: Forms,
): { readonly [Index in keyof Forms]: string } | undefined {
  if (token === "") return undefined;
  const [digest, ...place] = stringsIn(token);
  const fits = digest === digestOf(filter) && place.length === forms.length;
  if (!fits || !forms.every((form, index) => form.test(place[index] ?? ""))) {
    throw new GatewayError(
      "invalid_request",
      "`page_token` is not one this list has given. Send `next_page_token` of the page before, with the same filter.",
      { param: "page_token" },
    );
  }
  return place as unknown as { readonly [Index in keyof Forms]: string };
}

function stringsIn(token: string): string[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    return Array.isArray(value) ? value.filter((part) => typeof part === "string") : [];
  } catch {
    return [];
  }
}

function digestOf(filter: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(filter)).digest("base64url").slice(0, 16);
}
