-- Answers that were given again instead of being made: they cost nothing, and no provider was called for them.
ALTER TABLE spend_log ADD COLUMN cache_hit boolean NOT NULL DEFAULT false;
