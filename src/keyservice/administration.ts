/** Administration as a whole: its parts, and its two faces. */

import type { ConnectRouter } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { BudgetAdminService, EntityAdminService } from "../gen/tollgate/admin/v1/entities_pb.ts";
import { KeyAdminService, SpendAdminService } from "../gen/tollgate/admin/v1/keys_pb.ts";
import { CredentialAdminService, ModelAdminService } from "../gen/tollgate/admin/v1/models_pb.ts";
import type { Secret } from "../secret.ts";
import { type AdminParts, keyAdmin, spendAdmin } from "./admin.ts";
import { budgetAdmin, entityAdmin } from "./admin-entities.ts";
import { credentialAdmin, modelAdmin } from "./admin-models.ts";
import { BudgetTemplates } from "./budget-templates.ts";
import { Credentials } from "./credentials.ts";
import { Entities } from "./entities.ts";
import { Keys } from "./keys.ts";
import { Members } from "./members.ts";
import { type FileModels, Models } from "./models.ts";
import type { Postgres } from "./postgres.ts";
import type { Pepper } from "./secrets.ts";
import type { Vault } from "./vault.ts";

/** The services of the gRPC face. */
export const adminServices = [
  ...[KeyAdminService, SpendAdminService, EntityAdminService, BudgetAdminService],
  ...[ModelAdminService, CredentialAdminService],
] as const;

/** Puts together what both faces work with. */
export function createAdministration(parts: {
  readonly postgres: Postgres;
  readonly pepper: Pepper;
  readonly masterKey: Secret;
  readonly clock: Clock;
  readonly timeZone: string;
  readonly vault: Vault;
  readonly storesModels: boolean;
  readonly fileModels: FileModels | undefined;
}): AdminParts {
  const { postgres, masterKey, clock, timeZone } = parts;
  return {
    ...{ books: postgres, masterKey, clock, timeZone },
    keys: new Keys(parts),
    entities: new Entities(parts),
    members: new Members(parts),
    templates: new BudgetTemplates(parts),
    models: new Models(parts),
    credentials: new Credentials(parts),
  };
}

/** Registers the gRPC face. Its methods throw GatewayError. */
export function adminRoutes(router: ConnectRouter, parts: AdminParts): void {
  router.service(KeyAdminService, keyAdmin(parts));
  router.service(SpendAdminService, spendAdmin(parts));
  router.service(EntityAdminService, entityAdmin(parts));
  router.service(BudgetAdminService, budgetAdmin(parts));
  router.service(ModelAdminService, modelAdmin(parts));
  router.service(CredentialAdminService, credentialAdmin(parts));
}
