/** The gRPC face's door: who calls, whether he may, and in his name. */

import type { DescService } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Administration, AdminParts } from "./admin.ts";
import type { Access } from "./operator.ts";

/** Who may call each method of a service. */
export type AccessOf<Service extends DescService> = { readonly [Method in keyof Service["method"]]: Access };

type Method = (request: unknown, context: HandlerContext) => unknown;

/** A service whose every call is made by an operator. @param make the service as one operator has it. */
export function guarded<Service extends DescService>(
  access: AccessOf<Service>,
  make: (parts: AdminParts) => ServiceImpl<Service>,
  { operators, as }: Administration,
): ServiceImpl<Service> {
  const methods = Object.entries<Access>(access).map(([name, needed]): [string, Method] => [
    name,
    async (request, context) => {
      const reads = needed === "viewer" || /^(?:get|list)/.test(name);
      const groups = ["management_routes", ...(reads ? ["info_routes"] : [])];
      const path = `/${context.service.typeName}/${context.method.name}`;
      const header = (field: string) => context.requestHeader.get(field) ?? undefined;
      const operator = await operators.identify(header, { groups, paths: [path] });
      operator.checkAccess(needed);
      const method = (make(as(operator)) as unknown as Record<string, Method>)[name];
      if (method === undefined) throw new Error(`${name} is not implemented`);
      return method(request, context);
    },
  ]);
  return Object.fromEntries(methods) as unknown as ServiceImpl<Service>;
}
