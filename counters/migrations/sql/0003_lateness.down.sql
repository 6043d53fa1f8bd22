DROP INDEX period_frozen_until;
