/** What may be asked to be done to keys. */

import type { FieldNames, KeyChange } from "./key-fields.ts";

/** A key to be made. */
export interface NewKey {
  readonly change: KeyChange;
  /** What the caller's face calls the fields. */
  readonly names: FieldNames;
  /** The operator's own secret, already checked by checkSecret; undefined: one is made. */
  readonly secret: string | undefined;
  /** A UUID; a repeated one returns the key of the first. */
  readonly requestId: string | undefined;
  /** Whether it is for a service of its team, and no user's. Default: no. */
  readonly ofService?: boolean;
}

/** A change to a key that exists. */
export interface KeyUpdate {
  readonly change: KeyChange;
  readonly names: FieldNames;
  /** The etag the caller has seen; undefined: whatever it is now. */
  readonly etag: string | undefined;
}

/** Another secret for a key, and changes with it. */
export interface KeyRotation extends KeyUpdate {
  /** The operator's own secret, already checked by checkSecret; undefined: one is made. */
  readonly secret: string | undefined;
  /** How long the secret of before still works, "24h" for instance; "" or "0": not at all. */
  readonly gracePeriod: string;
  /** What the caller's face calls that. */
  readonly gracePeriodName: string;
}
