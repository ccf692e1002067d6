-- Who changed what, and when. Written by triggers, so that no change can be made without: not even by hand.

CREATE TABLE audit_log (
  audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- All that one transaction does to one thing is one row. In a database that was restored the numbers begin anew, hence the time as well.
  transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  -- The operator, or who is connected to the database.
  changed_by text NOT NULL,
  -- The virtual key the operator used; null for the master key.
  changed_by_key_id text,
  action text NOT NULL CHECK (action IN ('created', 'updated', 'deleted')),
  object_type text NOT NULL,
  object_id text NOT NULL,
  -- Null for what was created, or deleted; of an update only what it changed.
  before jsonb,
  after jsonb,
  UNIQUE (object_type, object_id, changed_at, transaction_id)
);
CREATE INDEX audit_log_newest ON audit_log (changed_at DESC, audit_id DESC);
CREATE INDEX audit_log_operator ON audit_log (changed_by, changed_at DESC);

-- Those fields of a row that differ from another.
CREATE FUNCTION audit_difference(row_image jsonb, other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(row_image) WHERE other->key IS DISTINCT FROM value
$$;

-- What of a row may be shown: no bookkeeping, and of secrets only that there are some, and whether the other row's were different.
CREATE FUNCTION audit_image(row_image jsonb, other jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_object_agg(key, CASE
      WHEN key NOT IN ('secret_hmac', 'secret_params', 'secret_values') OR value = 'null' THEN value
      WHEN other->key IS DISTINCT FROM value THEN '"(secret, changed)"'
      ELSE '"(secret)"' END)
  FROM jsonb_each(row_image)
  WHERE key NOT IN ('version', 'updated_at', 'updated_by', 'create_request_id', 'pepper_id', 'encryption_key_id', 'credential_id')
$$;

-- Notes a change to a thing, or to a part of it: its budgets are parts.
CREATE FUNCTION audit_note(what text, type text, id text, before_image jsonb, after_image jsonb) RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit_log AS a (changed_by, changed_by_key_id, action, object_type, object_id, before, after)
  VALUES (coalesce(nullif(current_setting('tollgate.operator', true), ''), session_user::text),
    nullif(current_setting('tollgate.operator_key_id', true), ''), what, type, id, before_image, after_image)
  ON CONFLICT (object_type, object_id, changed_at, transaction_id) DO UPDATE SET
    action = CASE WHEN excluded.action = 'updated' THEN a.action WHEN a.action = 'created' AND excluded.action = 'deleted' THEN 'deleted'
      WHEN a.action = 'updated' THEN excluded.action ELSE a.action END,
    before = CASE WHEN a.before IS NULL AND a.action = 'created' THEN NULL ELSE coalesce(excluded.before, '{}') || coalesce(a.before, '{}') END,
    after = CASE WHEN excluded.action = 'deleted' OR a.action = 'deleted' THEN NULL ELSE coalesce(a.after, '{}') || coalesce(excluded.after, '{}') END
$$;

-- Arguments of the trigger: the thing's type ("" for the row's scope), and the column of its id.
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  old_row jsonb := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
  new_row jsonb := CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
  any_row jsonb := coalesce(new_row, old_row);
  type text := coalesce(nullif(TG_ARGV[0], ''), any_row->>'scope');
  id text := any_row->>TG_ARGV[1];
  old_image jsonb := audit_image(old_row, old_row);
  new_image jsonb := audit_image(new_row, coalesce(old_row, new_row));
  was_alive boolean := old_row IS NOT NULL AND coalesce(old_row->>'deleted_at', '') = '';
  is_alive boolean := new_row IS NOT NULL AND coalesce(new_row->>'deleted_at', '') = '';
BEGIN
  IF TG_TABLE_NAME = 'members' THEN
    type := (any_row->>'scope') || '_member';
    id := (any_row->>'user_id') || ':' || (any_row->>'entity_id');
  END IF;
  IF NOT was_alive AND is_alive THEN
    PERFORM audit_note('created', type, id, NULL, new_image);
  ELSIF was_alive AND NOT is_alive THEN
    PERFORM audit_note('deleted', type, id, old_image, NULL);
  ELSIF was_alive AND old_image IS DISTINCT FROM new_image THEN
    PERFORM audit_note('updated', type, id, audit_difference(old_image, new_image), audit_difference(new_image, old_image));
  END IF;
  RETURN NULL;
END $$;

-- A budget is a part of what has it. Its name there says of which calls and days it is.
CREATE FUNCTION audit_budget() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  hidden text[] := ARRAY['budget_id', 'scope', 'scope_id', 'place', 'model', 'duration'];
  type text := CASE WHEN NEW.scope = 'model' THEN 'key' ELSE NEW.scope END;
  name text := concat_ws(' ', CASE WHEN NEW.place = 0 THEN 'budget' ELSE 'budget window' END, NEW.model,
    CASE WHEN NEW.place = 0 THEN NULL ELSE NEW.duration END);
  old_image jsonb := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE to_jsonb(OLD) - (hidden[:CASE WHEN NEW.place = 0 THEN 5 ELSE 6 END]) END;
  new_image jsonb := to_jsonb(NEW) - (hidden[:CASE WHEN NEW.place = 0 THEN 5 ELSE 6 END]);
BEGIN
  IF old_image IS DISTINCT FROM new_image THEN
    PERFORM audit_note('updated', type, NEW.scope_id, jsonb_build_object(name, old_image), jsonb_build_object(name, new_image));
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON keys FOR EACH ROW EXECUTE FUNCTION audit_row('key', 'key_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON entities FOR EACH ROW EXECUTE FUNCTION audit_row('', 'entity_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON members FOR EACH ROW EXECUTE FUNCTION audit_row('', 'user_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON budget_templates FOR EACH ROW EXECUTE FUNCTION audit_row('budget', 'template_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON models FOR EACH ROW EXECUTE FUNCTION audit_row('model', 'model_id');
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON credentials FOR EACH ROW EXECUTE FUNCTION audit_row('credential', 'credential_name');
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON budgets FOR EACH ROW EXECUTE FUNCTION audit_budget();
