-- A pod closes a lease although no ask of it has arrived: it stays closed should one arrive later. Whose it would have been
-- nobody knows.
ALTER TABLE leases ALTER COLUMN key_id DROP NOT NULL;
ALTER TABLE leases ADD CONSTRAINT leases_key CHECK (key_id IS NOT NULL OR state = 'closed');
