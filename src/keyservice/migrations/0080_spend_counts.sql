-- How long attempts that wrote tokens took. Of what was booked before, nothing is known here.
ALTER TABLE daily_spend ADD COLUMN answer_ms bigint NOT NULL DEFAULT 0;
ALTER TABLE daily_party_spend ADD COLUMN answer_ms bigint NOT NULL DEFAULT 0;

-- A repeated request to make a budget template returns the first one's.
ALTER TABLE budget_templates ADD COLUMN create_request_id uuid UNIQUE;

-- Rows of the spend log that are no attempts are not among the sums' counts; they are few, and counted here.
CREATE INDEX spend_log_corrections ON spend_log (started_at) WHERE attempt < 1;
