/** The keys of a connection to Redis, as LiteLLM and the client below it call them. */

import { choice, flag, list, port, redisNode, redisUrl, secret, section, text, whole } from "./fields.ts";

export const redisKeys = {
  url: redisUrl.optional(),
  host: text.optional(),
  port: port.optional(),
  username: text.optional(),
  password: secret.optional(),
  db: whole(0, 0).optional(),
  ssl: flag.optional(),
  ssl_ca_certs: text.optional(),
  ssl_certfile: text.optional(),
  ssl_keyfile: text.optional(),
  ssl_cert_reqs: choice(["required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE"]).optional(),
  ssl_check_hostname: flag.optional(),
  redis_startup_nodes: list(redisNode).optional(),
  startup_nodes: list(redisNode).optional(),
  service_name: text.optional(),
  sentinel_nodes: list(redisNode).optional(),
  sentinel_password: secret.optional(),
};

export const redisConnection = section(redisKeys);
