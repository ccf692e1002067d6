/** As whom a deployment in a cloud is called. */

import type { Secret } from "../secret.ts";
import type { PrivateHosts } from "./private-hosts.ts";

/** Where AWS credentials come from. */
export type AwsSource =
  | {
      readonly kind: "keys";
      readonly accessKeyId: Secret;
      readonly secretAccessKey: Secret;
      readonly sessionToken: Secret | undefined;
    }
  /** AWS's own files; undefined paths are those in the home directory. */
  | {
      readonly kind: "profile";
      readonly name: string;
      readonly credentialsFile: string | undefined;
      readonly configFile: string | undefined;
    }
  /** A token of another identity provider, a Kubernetes service account's for instance, turned into a role. */
  | { readonly kind: "web_identity"; readonly token: TokenSource; readonly role: AwsRole }
  /** Amazon's agent beside the container (EKS Pod Identity, ECS). */
  | { readonly kind: "container"; readonly url: string; readonly token: TokenSource | undefined }
  /** The machine's own role, which its metadata service tells. */
  | { readonly kind: "machine"; readonly url: string }
  /** The first that has any. */
  | { readonly kind: "first"; readonly of: readonly AwsSource[] }
  /** A role that whoever `base` is may take on. */
  | { readonly kind: "role"; readonly base: AwsSource; readonly role: AwsRole };

export interface AwsRole {
  readonly arn: string;
  readonly sessionName: string;
  readonly externalId: string | undefined;
}

/** A token as it is, or the file it is read from each time it is wanted. */
export type TokenSource = { readonly value: Secret } | { readonly file: string };

/** How a deployment is called in AWS. */
export interface AwsAccess {
  readonly cloud: "aws";
  readonly region: string;
  readonly source: AwsSource;
  /** The address of AWS's token service. */
  readonly stsUrl: string;
}

/** Whose token a deployment is called with at Google: an account's key, as a JSON text or in a file; or the machine's own. */
export type GoogleAccount =
  | {
      readonly kind: "json";
      readonly json: Secret;
      /** Where it stands in the database: the private places that its addresses may lead to. Absent: any. */
      readonly privateHosts?: PrivateHosts;
    }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "machine"; readonly url: string };

/** How a deployment is called in Google's cloud. */
export interface GoogleAccess {
  readonly cloud: "google";
  /** Undefined: the account's. */
  readonly project: string | undefined;
  readonly location: string;
  readonly account: GoogleAccount;
}

/** An application's token at Microsoft's identity service (Entra ID): given, or got for its secret or another provider's token. */
export type EntraIdentity =
  | { readonly kind: "token"; readonly token: Secret }
  | {
      readonly kind: "application";
      readonly clientId: string;
      readonly proof: { readonly secret: Secret } | { readonly assertion: TokenSource };
      /** Where tokens are given out. */
      readonly tokenUrl: string;
      readonly scope: string;
    };

/** How a deployment is called in Azure. */
export interface AzureAccess {
  readonly cloud: "azure";
  /** Whether the deployment stands in the path, as Azure OpenAI's older addresses have it; else it is the body's model. */
  readonly isInPath: boolean;
  /** Undefined: the address has no versions. */
  readonly apiVersion: string | undefined;
  /** Undefined: the key is sent. */
  readonly identity: EntraIdentity | undefined;
  /** The header that the key is sent in. */
  readonly keyHeader: "api-key" | "authorization";
}
