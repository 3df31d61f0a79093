-- Grows with each block and unblock: of two announcements about one user the later one counts.

ALTER TABLE users ADD COLUMN block_version INTEGER NOT NULL DEFAULT 0;
