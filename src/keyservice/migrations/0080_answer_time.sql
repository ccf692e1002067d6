-- How long attempts that wrote tokens took. Of what was booked before, nothing is known here.
ALTER TABLE daily_spend ADD COLUMN answer_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE daily_party_spend ADD COLUMN answer_ms bigint NOT NULL DEFAULT 0;

-- A repeated request to make a budget template returns the first one's.
ALTER TABLE budget_templates ADD COLUMN create_request_id uuid UNIQUE;
