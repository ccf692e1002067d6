-- Keys that rotate by themselves: the new secret, until whoever is to receive it has it. Until then the one of before works on.
CREATE TABLE key_rotations (
  key_id text PRIMARY KEY REFERENCES keys,
  rotation_id uuid NOT NULL UNIQUE,
  -- AES-256-GCM over its JSON, bound to the rotation's id.
  secret_values bytea NOT NULL,
  encryption_key_id text NOT NULL,
  begun_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  -- By the database's clock.
  next_attempt_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX key_rotations_due ON key_rotations (next_attempt_at);
CREATE INDEX keys_auto_rotate ON keys (key_id) WHERE extra->'auto_rotate' = 'true' AND deleted_at IS NULL;
