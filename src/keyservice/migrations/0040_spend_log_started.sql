-- The spend log is also asked by days and by users, in the order in which attempts began.
CREATE INDEX spend_log_started ON spend_log (started_at DESC, call_id, attempt);
CREATE INDEX spend_log_user ON spend_log (user_id, started_at DESC) WHERE user_id <> '';
