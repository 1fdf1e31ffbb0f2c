-- Where a session is used, for the list that people see of their own sessions.
ALTER TABLE session ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';
CREATE INDEX session_of_user ON session (user_id);

-- Links that work once. Only a digest of a link's secret is stored. An account that has not chosen a
-- password yet has an empty hash.
CREATE TABLE one_time_link (
    digest      TEXT   PRIMARY KEY,
    user_id     TEXT   NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    purpose     TEXT   NOT NULL,
    expires_ms  BIGINT NOT NULL
);
CREATE INDEX one_time_link_user ON one_time_link (user_id);
