-- What admins have asked of running connectors and links of late; without a task, that it be forgotten.
CREATE TABLE connector_order (
    tunnel_id    TEXT NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    number       BIGINT NOT NULL,
    connector_id TEXT NOT NULL,
    task         TEXT,
    at_ms        BIGINT NOT NULL,
    PRIMARY KEY (tunnel_id, number, connector_id)
);
CREATE INDEX connector_order_age ON connector_order (at_ms);
