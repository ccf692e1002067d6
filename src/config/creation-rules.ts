import type { JsonObject } from "../completion.ts";

/** Limits that keys may have. Absent: none is written. */
interface KeyLimits {
  /** Nano-dollars. */
  readonly maxBudget?: bigint;
  readonly budgetDuration?: string;
  /** How long a key works. */
  readonly duration?: string;
  readonly rpmLimit?: number;
  readonly tpmLimit?: number;
  readonly maxParallelRequests?: number;
}

/** What a team or a user gets where its maker does not say. */
export interface EntityDefaults extends Pick<KeyLimits, "maxBudget" | "budgetDuration" | "rpmLimit" | "tpmLimit"> {
  readonly models?: readonly string[];
  /** A user's. */
  readonly role?: "proxy_admin" | "proxy_admin_viewer" | "internal_user" | "internal_user_viewer";
  /** What a team's members may do to its keys: paths. */
  readonly memberPermissions?: readonly string[];
}

/** What holds for keys that are made, and for teams and users. */
export interface KeyRules {
  /** What a key gets where its maker does not say (`litellm_settings.default_key_generate_params`). */
  readonly defaults: KeyLimits & {
    readonly models?: readonly string[];
    readonly metadata?: JsonObject;
    readonly userId?: string;
    readonly teamId?: string;
  };
  /** The most a key may have, and what it gets if neither its maker nor the defaults say (`upperbound_key_generate_params`). */
  readonly bounds: KeyLimits;
  /** `litellm_settings.default_team_params`. */
  readonly teamDefaults?: EntityDefaults;
  /** `litellm_settings.default_internal_user_params`. */
  readonly userDefaults?: EntityDefaults;
  /** Teams that every user may join (`default_internal_user_params.available_teams`). */
  readonly joinableTeams?: readonly string[];
}
