-- Who last changed something and when, and at which generation: the version that If-Match compares.
ALTER TABLE team ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE team ADD COLUMN updated_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE team ADD COLUMN updated_by TEXT COLLATE "C";
UPDATE team SET updated_ms = created_ms;
ALTER TABLE account ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN updated_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN updated_by TEXT COLLATE "C";
UPDATE account SET updated_ms = created_ms;
ALTER TABLE workflow ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workflow ADD COLUMN updated_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workflow ADD COLUMN updated_by TEXT COLLATE "C";
UPDATE workflow SET updated_ms = created_ms;
ALTER TABLE tunnel ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tunnel ADD COLUMN updated_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tunnel ADD COLUMN updated_by TEXT COLLATE "C";
UPDATE tunnel SET updated_ms = created_ms;

-- People have names; an account that is disabled lets nobody in.
ALTER TABLE account ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN disabled_ms BIGINT;
ALTER TABLE account ADD COLUMN last_login_ms BIGINT;
