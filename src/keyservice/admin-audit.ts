/** The gRPC face of the audit log. */

import type { JsonObject as StructJson } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { AuditAction as ActionMessage, type AuditAdminService } from "../gen/tollgate/admin/v1/audit_pb.ts";
import type { AdminParts } from "./admin.ts";
import type { AuditAction, AuditRecord } from "./audit-log.ts";
import { invalid } from "./key-fields.ts";
import { pageSizeOf, readPageToken, writePageToken } from "./page-token.ts";

const actions: ReadonlyMap<ActionMessage, AuditAction | undefined> = new Map([
  [ActionMessage.UNSPECIFIED, undefined],
  [ActionMessage.CREATED, "created"],
  [ActionMessage.UPDATED, "updated"],
  [ActionMessage.DELETED, "deleted"],
]);
const offsetForm = /^\d{1,9}$/;

/** Makes the implementation of AuditAdminService. */
export function auditAdmin({ audit }: AdminParts): ServiceImpl<typeof AuditAdminService> {
  return {
    async listAuditLog({ pageSize, pageToken, changedBy, action, objectType, objectId, startTime, endTime }) {
      const limit = pageSizeOf(pageSize);
      if (!actions.has(action)) throw invalid("action", "must be CREATED, UPDATED or DELETED, or absent.");
      const fromMs = startTime && timestampMs(startTime);
      const toMs = endTime && timestampMs(endTime);
      const asked = [changedBy, String(action), objectType, objectId, String(fromMs), String(toMs)];
      const [offset = "0"] = readPageToken(pageToken, asked, [offsetForm]) ?? [];
      const filter = {
        ...{ action: actions.get(action), fromMs, toMs },
        changedBy: changedBy || undefined,
        objectType: objectType || undefined,
        objectId: objectId || undefined,
      };
      const { records, total } = await audit.list(filter, { limit, offset: Number(offset) });
      const next = Number(offset) + records.length;
      return {
        records: records.map(messageOf),
        nextPageToken: next < total ? writePageToken(asked, [String(next)]) : "",
        totalCount: BigInt(total),
      };
    },
  };
}

function messageOf({ auditId, changedAtMs, action, before, after, changedByKeyId = "", ...same }: AuditRecord) {
  return {
    ...same,
    ...{ id: auditId, changedByKeyId },
    changeTime: timestampFromMs(changedAtMs),
    action: [...actions].find(([, name]) => name === action)?.[0] ?? ActionMessage.UNSPECIFIED,
    ...(before && { before: before as StructJson }),
    ...(after && { after: after as StructJson }),
  };
}
