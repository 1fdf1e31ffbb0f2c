-- Requests that clients marked to be done once, for 24 hours. Without a status the request is under way, or
-- the control plane stopped in its middle. No answer that holds a secret is kept.
CREATE TABLE idempotency (
    tenant_id   TEXT NOT NULL REFERENCES tenant (id),
    user_id     TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    client_key  TEXT NOT NULL,
    digest      TEXT NOT NULL,
    created_ms  BIGINT NOT NULL,
    status      BIGINT,
    body        TEXT,
    PRIMARY KEY (tenant_id, user_id, client_key)
);
CREATE INDEX idempotency_age ON idempotency (created_ms);
