-- What a key's calls may be and must have. Until now the two were kept among the fields that do not act.
ALTER TABLE keys ADD COLUMN allowed_routes text[] NOT NULL DEFAULT '{}';
ALTER TABLE keys ADD COLUMN enforced_params text[] NOT NULL DEFAULT '{}';
UPDATE keys SET allowed_routes = ARRAY(SELECT entry FROM jsonb_array_elements_text(extra->'allowed_routes') AS e (entry) WHERE entry <> '')
  WHERE jsonb_typeof(extra->'allowed_routes') = 'array';
UPDATE keys SET enforced_params = ARRAY(SELECT entry FROM jsonb_array_elements_text(extra->'enforced_params') AS e (entry) WHERE entry <> '')
  WHERE jsonb_typeof(extra->'enforced_params') = 'array';
UPDATE keys SET extra = extra - 'allowed_routes' - 'enforced_params' WHERE extra ?| ARRAY['allowed_routes', 'enforced_params'];
