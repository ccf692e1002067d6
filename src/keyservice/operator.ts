/** Who administers, and what they may do. */

import { mayReadMetrics } from "../allowed-routes.ts";
import { GatewayError } from "../errors.ts";

/**
 * What a user may do everywhere, in LiteLLM's words. A user without a role is an internal user; "none" is a key that is nobody's, and
 * may ask about itself.
 */
export type Role = "proxy_admin" | "proxy_admin_viewer" | "internal_user" | "internal_user_viewer" | "none";

/**
 * Who may do a thing at all: anybody without a key; the holder of the master key; administrators; those who may see everything, too; or whoever has a key, and the
 * service decides about what it is done to.
 */
export type Access = "public" | "master" | "admin" | "viewer" | "scoped";

/** What an operator is in a team. */
export interface TeamPlace {
  /** Also whoever administers the team's organization. */
  readonly isAdmin: boolean;
  readonly isOrganizationAdmin: boolean;
  /** What else members may do to the team's keys: paths, "/key/info" and the like. */
  readonly permissions: ReadonlySet<string>;
}

/** Something that may be done to keys; where a team's members may, its permissions name it. */
export type KeyAction =
  | "/key/generate"
  | "/key/update"
  | "/key/delete"
  | "/key/regenerate"
  | "/key/info"
  | "/key/reset_spend"
  | "/key/block";

/** Whose a key is. */
export interface KeyOwner {
  readonly keyId?: string;
  readonly userId: string | null;
  readonly teamId: string | null;
}

/** Which things an operator sees; undefined: all. */
export interface Sight {
  readonly keyId: string | undefined;
  readonly userId: string | undefined;
  readonly teamIds: readonly string[];
}

/** Somebody who administers. Its checks throw GatewayError `permission_denied` or `team_member_permission_error`. */
export class Operator {
  /** In `created_by` and the audit log. */
  readonly name: string;
  readonly role: Role;
  readonly keyId: string | undefined;
  readonly userId: string | undefined;
  readonly #teams: Map<string, TeamPlace>;
  /** Organizations, and whether the operator administers them. */
  readonly organizations: ReadonlyMap<string, boolean>;

  constructor(parts: {
    name: string;
    role: Role;
    keyId?: string | undefined;
    userId?: string | undefined;
    teams?: ReadonlyMap<string, TeamPlace>;
    organizations?: ReadonlyMap<string, boolean>;
  }) {
    this.name = parts.name;
    this.role = parts.role;
    this.keyId = parts.keyId;
    this.userId = parts.userId;
    this.#teams = new Map(parts.teams);
    this.organizations = parts.organizations ?? new Map();
  }

  /** Whether he has the master key. */
  get isMaster(): boolean {
    return this.isAdmin && this.keyId === undefined;
  }

  get isAdmin(): boolean {
    return this.role === "proxy_admin";
  }

  /** Whether there is anything the operator may not see. */
  get seesAll(): boolean {
    return this.isAdmin || this.role === "proxy_admin_viewer";
  }

  /** What is left to see of keys; undefined: everything. */
  get sight(): Sight | undefined {
    if (this.seesAll) return undefined;
    const teamIds = [...this.#teams].flatMap(([id, { isAdmin, permissions }]) =>
      isAdmin || permissions.has("/key/info") ? [id] : [],
    );
    return { keyId: this.keyId, userId: this.userId, teamIds };
  }

  /** A team he has just made is his. */
  made(teamId: string): void {
    this.#teams.set(teamId, { isAdmin: true, isOrganizationAdmin: true, permissions: new Set() });
  }

  /** A team he has just joined is one he sees. */
  joined(teamId: string): void {
    if (!this.#teams.has(teamId)) {
      this.#teams.set(teamId, { isAdmin: false, isOrganizationAdmin: false, permissions: new Set() });
    }
  }

  /** May he come in at all? */
  checkAccess(access: Access): void {
    if (access === "master" && !this.isMaster) throw denied("Only the holder of the master key may do this");
    if (access === "admin" && !this.isAdmin) throw denied("Only administrators may do this");
    if (access === "viewer" && !this.seesAll) throw denied("Only administrators and viewers may see this");
  }

  /** @throws also `team_member_permission_error`: a member of the key's team, without the permission. */
  checkKey(action: KeyAction, { keyId, userId, teamId }: KeyOwner): void {
    if (this.isAdmin) return;
    if (action === "/key/block") throw denied("Only administrators may block keys");
    if (action === "/key/info") {
      if (this.seesAll || (keyId !== undefined && keyId === this.keyId)) return;
      if (this.userId !== undefined && userId === this.userId) return;
    } else if (this.role !== "internal_user") {
      throw denied("The key that was sent may change nothing");
    }
    const place = teamId === null ? undefined : this.#teams.get(teamId);
    if (place?.isAdmin === true) return;
    if (place !== undefined && action !== "/key/reset_spend") {
      if (place.permissions.has(action)) return;
      throw new GatewayError(
        "team_member_permission_error",
        `Members of the team ${teamId} may not use ${action}. Its administrator can add it to \`team_member_permissions\`.`,
        { param: "team_id" },
      );
    }
    const isOwn = teamId === null && this.userId !== undefined && userId === this.userId;
    if (isOwn && action !== "/key/reset_spend") return;
    throw denied("The key is not yours, nor of a team you administer");
  }

  /** Where a new key goes, or an old one is moved to. */
  checkKeyTarget(owner: KeyOwner & { readonly organizationId: string | null }): void {
    if (this.isAdmin) return;
    this.checkKey("/key/generate", owner);
    const { userId, teamId, organizationId } = owner;
    const isTeamAdmin = teamId !== null && this.#teams.get(teamId)?.isAdmin === true;
    if (userId !== null && userId !== this.userId && !isTeamAdmin)
      throw denied("You may make keys for yourself only", "user_id");
    if (organizationId !== null && !this.organizations.has(organizationId)) {
      throw denied("You are no member of the organization", "organization_id");
    }
  }

  /** What a key sees of everybody's calls is not for everybody to give. */
  checkRoutes(allowed: readonly string[]): void {
    if (!this.isAdmin && mayReadMetrics(allowed))
      throw denied("Only administrators may let a key read metrics", "allowed_routes");
  }

  /** Teams are made, changed and ended by who administers their organization. */
  checkTeam(teamId: string): void {
    if (this.isAdmin || this.#isOrganizationAdminOf(teamId)) return;
    throw denied("Only who administers the team's organization may do this");
  }

  /** Members are added, changed and removed by who administers the team, or the organization. */
  checkMembers(scope: "team" | "organization", id: string): void {
    if (this.isAdmin) return;
    const mayWrite = this.role === "internal_user";
    if (scope === "team" && mayWrite && this.#teams.get(id)?.isAdmin === true) return;
    if (scope === "organization" && mayWrite && this.organizations.get(id) === true) return;
    throw denied(`Only who administers the ${scope} may do this`);
  }

  /** What may be put into an organization by its administrators. */
  checkOrganization(id: string | null): void {
    if (this.isAdmin) return;
    if (id !== null && this.role === "internal_user" && this.organizations.get(id) === true) return;
    throw denied("Only an administrator of the organization may do this", "organization_id");
  }

  /** Those of some kind that are seen; undefined: all. */
  seenOf(kind: "team" | "organization" | "user" | "end_user" | "tag"): readonly string[] | undefined {
    if (this.seesAll) return undefined;
    if (kind === "team") return [...this.#teams.keys()];
    if (kind === "organization") return [...this.organizations.keys()];
    return kind === "user" && this.userId !== undefined ? [this.userId] : [];
  }

  /** @returns the ids that were asked for, or all that are seen; undefined: all there are. */
  narrow(
    kind: "team" | "organization" | "user" | "end_user" | "tag",
    asked: readonly string[] | undefined,
  ): readonly string[] | undefined {
    const seen = this.seenOf(kind);
    if (seen === undefined) return asked;
    if (asked === undefined) return seen;
    const foreign = asked.find((id) => !seen.includes(id));
    if (foreign !== undefined) throw denied(`You may not see the ${kind} ${foreign}`);
    return asked;
  }

  /** Whose rows of the spend log he gets: what he asks for, or of that his own. */
  ownSpend<Asked extends { readonly keyId?: string | undefined; readonly userId?: string | undefined }>(
    asked: Asked,
  ): Asked {
    if (this.seesAll) return asked;
    const [name, own] =
      this.userId === undefined ? (["keyId", this.keyId] as const) : (["userId", this.userId] as const);
    const isForeign = asked[name] !== undefined && asked[name] !== own;
    if (isForeign || (asked.userId !== undefined && asked.userId !== this.userId)) {
      throw denied("You may not see what others spent");
    }
    return { ...asked, [name]: own };
  }

  #isOrganizationAdminOf(teamId: string): boolean {
    return this.role === "internal_user" && this.#teams.get(teamId)?.isOrganizationAdmin === true;
  }
}

/** Who has not said who he is. */
export const nobody = new Operator({ name: "nobody", role: "none" });

/** @param what nobody but some may do, or what is not the caller's. */
function denied(what: string, param?: string): GatewayError {
  const cure = what.startsWith("Only") ? "Send a key of theirs, or ask them" : "Ask an administrator";
  return new GatewayError("permission_denied", `${what}. ${cure}.`, param === undefined ? {} : { param });
}
