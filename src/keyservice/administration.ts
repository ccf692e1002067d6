/** Administration as a whole: its parts, and its two faces. */

import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import type { KeyRules } from "../config/creation-rules.ts";
import type { PrivateHosts } from "../config/private-hosts.ts";
import { AuditAdminService } from "../gen/tollgate/admin/v1/audit_pb.ts";
import { BudgetAdminService, EntityAdminService } from "../gen/tollgate/admin/v1/entities_pb.ts";
import { KeyAdminService, SpendAdminService } from "../gen/tollgate/admin/v1/keys_pb.ts";
import { CredentialAdminService, ModelAdminService } from "../gen/tollgate/admin/v1/models_pb.ts";
import type { Secret } from "../secret.ts";
import { type Administration, type AdminParts, keyAdmin, spendAdmin } from "./admin.ts";
import { auditAdmin } from "./admin-audit.ts";
import { budgetAdmin, entityAdmin } from "./admin-entities.ts";
import { credentialAdmin, modelAdmin } from "./admin-models.ts";
import { AuditLog } from "./audit-log.ts";
import { BudgetTemplates } from "./budget-templates.ts";
import { Credentials } from "./credentials.ts";
import { Entities } from "./entities.ts";
import { forgiveAll } from "./forgiveness.ts";
import { type AccessOf, guarded } from "./guarded.ts";
import { Keys } from "./keys.ts";
import { Members } from "./members.ts";
import { type FileModels, Models } from "./models.ts";
import { Operator } from "./operator.ts";
import { Operators } from "./operators.ts";
import type { Database } from "./postgres.ts";
import { noProviderBudgets, type ProviderBudgets } from "./provider-budgets.ts";
import type { Pepper } from "./secrets.ts";
import { OneTransaction, SignedDatabase } from "./signed-database.ts";
import type { Vault } from "./vault.ts";

/** The services of the gRPC face. */
export const adminServices = [
  ...[KeyAdminService, SpendAdminService, EntityAdminService, BudgetAdminService],
  ...[ModelAdminService, CredentialAdminService, AuditAdminService],
] as const;

/** What the service's file says for administration; each call takes it as it then is. */
export interface FileRules {
  readonly keyRules: KeyRules;
  /** The private places that models of the database may be called at. */
  readonly privateHosts: PrivateHosts;
  /** The file's models, to be listed. Undefined: there is no file. */
  readonly fileModels: FileModels | undefined;
}

/** Puts together what both faces work with. */
export function createAdministration(parts: {
  readonly postgres: Database;
  readonly pepper: Pepper;
  readonly masterKey: Secret;
  readonly clock: Clock;
  readonly timeZone: string;
  readonly rules: () => FileRules;
  readonly vault: Vault;
  readonly storesModels: boolean;
  readonly deliversSecrets?: boolean;
  /** Default: providers have none. */
  readonly providerBudgets?: ProviderBudgets;
}): Administration {
  const { postgres: books, masterKey, clock, timeZone } = parts;
  const providerBudgets = parts.providerBudgets ?? noProviderBudgets;
  const on = (postgres: Database, operator: Operator): AdminParts => {
    const signed = { ...parts, ...parts.rules(), operator, postgres };
    return {
      ...{ operator, books, masterKey, clock, timeZone, providerBudgets },
      audit: new AuditLog({ books }),
      keys: new Keys(signed),
      entities: new Entities(signed),
      members: new Members(signed),
      templates: new BudgetTemplates(signed),
      models: new Models(signed),
      credentials: new Credentials(signed),
      together: (work) => postgres.transaction((client) => work(on(new OneTransaction(client), operator))),
      resetSpend: () => forgiveAll(postgres, () => ({ nowMs: clock.nowMs(), timeZone })),
    };
  };
  const as = (operator: Operator) => on(new SignedDatabase({ database: books, operator }), operator);
  const { keys } = as(new Operator({ name: "keyservice", role: "proxy_admin" }));
  return { operators: new Operators({ books, keys, masterKey, nowMs: () => clock.nowMs() }), as };
}

/** Registers the gRPC face. Its methods throw GatewayError. */
export function adminRoutes(router: ConnectRouter, administration: Administration): void {
  const guard = <Service extends DescService>(
    service: Service,
    make: (parts: AdminParts) => ServiceImpl<Service>,
    access: AccessOf<Service>,
  ) => router.service(service, guarded(access, make, administration));
  guard(KeyAdminService, keyAdmin, {
    ...{ createKey: "scoped", getKey: "scoped", updateKey: "scoped", rotateKey: "scoped", deleteKey: "scoped" },
    ...{ resetKeyBudget: "scoped", listKeys: "scoped", blockKey: "scoped", unblockKey: "scoped" },
    ...{ batchUpdateKeys: "scoped", listKeyAliases: "scoped" },
  });
  guard(SpendAdminService, spendAdmin, {
    listSpend: "scoped",
    getSpendReport: "viewer",
    estimateCost: "viewer",
    listDailyActivity: "scoped",
    resetSpend: "master",
    listProviderBudgets: "viewer",
  });
  guard(EntityAdminService, entityAdmin, {
    ...{ createEntity: "scoped", getEntity: "scoped", updateEntity: "scoped", deleteEntity: "scoped" },
    ...{ listEntities: "scoped", blockEntity: "scoped", unblockEntity: "scoped" },
    ...{ batchUpdateEntities: "scoped", changeEntityModels: "scoped", resetMemberBudget: "scoped" },
    ...{ addMembers: "scoped", updateMember: "scoped", removeMember: "scoped", listMembers: "scoped" },
  });
  guard(BudgetAdminService, budgetAdmin, {
    ...{ createBudget: "admin", updateBudget: "admin", deleteBudget: "admin", listBudgets: "viewer" },
  });
  guard(ModelAdminService, modelAdmin, {
    listModelGroups: "scoped",
    ...{ createModel: "admin", getModel: "scoped", updateModel: "admin", deleteModel: "admin", listModels: "scoped" },
  });
  guard(CredentialAdminService, credentialAdmin, {
    ...{ createCredential: "admin", getCredential: "admin", updateCredential: "admin", deleteCredential: "admin" },
    ...{ listCredentials: "admin", getModelCredential: "admin" },
  });
  guard(AuditAdminService, auditAdmin, { listAuditLog: "viewer" });
}
