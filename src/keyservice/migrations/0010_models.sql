-- Models and credentials that operators keep in the database instead of a file.

CREATE TABLE models (
  model_id text PRIMARY KEY,
  model_name text NOT NULL,
  -- litellm_params, but for those that may be secret.
  params jsonb NOT NULL,
  -- Those: AES-256-GCM over their JSON, as nonce, ciphertext and tag, bound to the model's id.
  secret_params bytea,
  -- The key that secret_params takes, of those the KeyService knows.
  encryption_key_id text,
  info jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL,
  version bigint NOT NULL,
  create_request_id uuid UNIQUE,
  CHECK ((secret_params IS NULL) = (encryption_key_id IS NULL))
);

-- Parameters that models share by naming a credential.
CREATE TABLE credentials (
  credential_name text PRIMARY KEY,
  -- As of models, all of them, bound to the credential's id.
  credential_id uuid NOT NULL UNIQUE,
  secret_values bytea NOT NULL,
  encryption_key_id text NOT NULL,
  info jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  updated_by text NOT NULL,
  version bigint NOT NULL,
  create_request_id uuid UNIQUE
);
