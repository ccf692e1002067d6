-- A key's secret can be replaced; the one of before may work on for a while.
CREATE TABLE former_secrets (
  secret_hmac bytea PRIMARY KEY,
  pepper_id text NOT NULL,
  key_id text NOT NULL REFERENCES keys,
  -- From then on it is as good as expired.
  ends_at timestamptz NOT NULL
);
CREATE INDEX former_secrets_key ON former_secrets (key_id);
CREATE INDEX former_secrets_ended ON former_secrets (ends_at);

ALTER TABLE keys ADD COLUMN rotation_count integer NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN rotated_at timestamptz;
